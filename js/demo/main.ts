import { samplePhoto, startPhoto } from "./photo.js";
import { sampleSpeech, startSpeech } from "./speech.js";

startPhoto();
startSpeech();
// Something to look at from the first second on.
await samplePhoto();
await sampleSpeech();
