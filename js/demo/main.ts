import { keepPage } from "./page.js";
import { firstPhoto, startPhoto } from "./photo.js";
import { firstSpeech, startSpeech } from "./speech.js";

keepPage();
startPhoto();
startSpeech();
// Something to look at from the first second on, but never instead of what the visitor opens.
await firstPhoto();
await firstSpeech();
