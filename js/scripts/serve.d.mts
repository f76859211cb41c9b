export function serve(
  folders: Record<string, string>,
  options?: { port?: number; isolated?: boolean },
): Promise<{ url: string; close: () => void }>;
