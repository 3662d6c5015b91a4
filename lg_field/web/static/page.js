// @ts-check
/** The page of a scene: opens it, draws what has arrived, and wires the controls. */

import { Orbit, add, dot, frameBox, length } from "./camera.js";
import { Edit } from "./edit.js";
import { FieldError, openField } from "./field.js";
import { NoGpu, megabytes, openDevice } from "./gpu.js";
import { fieldSource, resourceUrl, site } from "./loader.js";
import { boundsOf, nearBounds } from "./occupancy.js";
import { Panel } from "./panel.js";
import { Renderer } from "./render.js";
import { Screen } from "./screen.js";
import { readHash } from "./share.js";
import { regionFromDict } from "./space.js";

/** @typedef {import("./field.js").Field} Field */

/** A card that is lost so often, each time before this many milliseconds are over, is not opened again. */
const MOST_LOST = 3, SOON = 20_000;

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** What was published with the scene. */
const about = site();

/** Show a line below the picture; an empty one hides it. @param {string} text */
function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

/** The line of an error. @param {any} error */
const lineOf = (error) => String(error?.message ?? error).split("\n")[0];

/** Without a card that draws: why, a still picture, and links. @param {string} reason */
function showStill(reason) {
  byId("still").hidden = false;
  byId("still-text").textContent = reason;
  if (about.still) /** @type {HTMLImageElement} */ (byId("still-picture")).src = resourceUrl(about.still);
  const link = document.createElement("a");
  link.textContent = `The scene file${about.bytes ? ` (${megabytes(about.bytes)})` : ""}`;
  if (/^https?:$/.test(location.protocol)) link.href = about.field;
  byId("still-links").append(link);
  byId("panel").hidden = byId("toggle").hidden = true;
  document.body.dataset.picture = "still";
}

/** What has arrived of the scene. @param {number} here @param {number} all */
function progress(here, all) {
  /** @type {HTMLProgressElement} */ (byId("progress")).value = all ? here / all : 0;
  byId("status").textContent = `${megabytes(here)} of ${megabytes(all)}`;
}

class Page {
  /** @param {Field} field @param {GPUDevice} device @param {Renderer} renderer @param {Screen} screen */
  constructor(field, device, renderer, screen) {
    this.field = field;
    this.device = device;
    this.renderer = renderer;
    this.screen = screen;
    this.edit = new Edit(field);
    this.say = say;
    this.edit.onChange = () => this.follow();
    /** Regions and rows that the card has now. @type {import("./space.js").Region | null} */ this.shown = null;
    this.panel = new Panel(this);
  }

  get aspect() { return this.screen.aspect; }

  /** Where the camera starts, or looks at all that is kept. @param {boolean} [whole] */
  home(whole = false) {
    const { orbit } = this.screen, rows = this.edit.state.kept.reduce((/** @type {number[]} */ list, one, row) => (one ? [...list, row] : list), []);
    const box = nearBounds(this.field, boundsOf(this.field, rows)), middle = box.low.map((v, k) => (v + box.high[k]) / 2);
    if (about.camera && !whole) return this.lookFrom(about.camera, middle);
    frameBox(orbit, box, this.field.scene.camera);
  }

  /** Take a camera. @param {import("./types.js").SiteCamera} view @param {number[]} [middle] */
  lookFrom({ camera: m, focal }, middle = this.screen.orbit.target) {
    const away = add(middle, [m[0][3], m[1][3], m[2][3]], -1), ahead = -dot(away, [m[0][2], m[1][2], m[2][2]]);
    this.screen.orbit.take(m, focal, ahead > 0.05 ? ahead : length(away) || 1);
  }

  /** Take camera and crop of a link. @param {string} hash */
  async open(hash) {
    const said = readHash(hash, this.aspect);
    if (said.orbit) Object.assign(this.screen.orbit, said.orbit);
    if (said.shape || said.cells) {
      this.edit.restore(said.shape ? await regionFromDict(said.shape) : null, said.cells ?? null);
    } else this.follow();
  }

  /** Follow the edit: free what went, fetch what came. */
  follow() {
    const { kept, selected } = this.edit.state;
    this.loading?.abort();
    const changed = !this.kept || kept.some((one, row) => one !== this.kept?.[row]);
    try {
      const missing = changed ? this.renderer.keep(kept) : this.missing();
      this.kept = kept;
      this.renderer.table.select(selected);
      this.mask(this.edit.region);
      this.screen.change();
      this.panel.update();
      this.fetch(missing).catch((error) => say(lineOf(error)));
    } catch (error) {
      say(lineOf(error));
    }
  }

  /** Take another card, for one that was lost: what is kept, selected and seen stays. @param {GPUDevice} device */
  async take(device) {
    const renderer = await rendererOf(device, this.field);
    await this.screen.take(device, renderer);
    Object.assign(this, { device, renderer, kept: undefined, masked: false });
    this.follow();
  }

  missing() {
    const { table } = this.renderer;
    return table.kept.filter((row) => !table.loaded[row]);
  }

  /** Show only what is in a region. @param {import("./space.js").Region | null} region */
  mask(region) {
    if (region === this.shown && this.masked) return;
    this.shown = region;
    this.masked = true;
    this.renderer.setRegion(region);
    this.screen.change();
  }

  /** Fetch rows, those that are largest on the screen first. @param {number[]} rows */
  async fetch(rows) {
    const loading = (this.loading = new AbortController()), { field } = this;
    if (rows.length) document.body.dataset.loading = "yes";
    try {
      await field.rows(this.ordered(rows), (come) => {
        if (loading.signal.aborted) return;
        if (this.renderer.table.load(come)) this.screen.change();
        this.counted();
      }, { signal: loading.signal });
    } catch (error) {
      if (loading.signal.aborted) return;
      throw error instanceof FieldError ? error : new Error(`the scene could not be fetched: ${lineOf(error)}`);
    }
    if (this.missing().length === 0) document.body.dataset.loading = "no";
    this.counted();
  }

  counted() {
    const { bytesFetched, bytesTotal, requests } = this.field, whole = this.missing().length === 0;
    progress(Math.min(bytesFetched, bytesTotal), bytesTotal);
    byId("progress").className = whole ? "done" : "";
    byId("status").textContent = `${megabytes(bytesFetched)} fetched in ${requests} requests, of a file of ${megabytes(bytesTotal)}`;
  }

  /** Rows, what is ahead and near first. @param {number[]} rows */
  ordered(rows) {
    const { orbit } = this.screen, { frame } = this.field;
    const score = rows.map((row) => {
      const [low, high] = frame.sceneBox(this.field.cells[row]), middle = low.map((v, k) => (v + high[k]) / 2);
      const at = orbit.project(middle, this.aspect), seen = at !== null && at.slice(0, 2).every((v) => v > -0.2 && v < 1.2);
      return (length(add(high, low, -1)) / Math.max(0.05, length(add(middle, orbit.eye, -1)))) * (seen ? 100 : 1);
    });
    return rows.map((_, k) => k).sort((a, b) => score[b] - score[a]).map((k) => rows[k]);
  }
}

/** What draws a scene on a card. @param {GPUDevice} device @param {Field} field */
async function rendererOf(device, field) {
  device.addEventListener("uncapturederror", (event) => say(`The graphics card reports: ${lineOf(/** @type {any} */ (event).error)}`));
  return Renderer.create(device, field);
}

/** Draw a scene. @param {Field} field */
async function draw(field) {
  const device = await openDevice(), renderer = await rendererOf(device, field);
  const canvas = /** @type {HTMLCanvasElement} */ (byId("canvas"));
  const screen = await Screen.create(canvas, device, renderer, new Orbit(field.scene.up));
  screen.onPicture = (_, sharp) => (document.body.dataset.picture = sharp ? "sharp" : "quick");
  const page = new Page(field, device, renderer, screen);
  screen.fit();
  Object.assign(globalThis, { page });
  page.home();
  await page.open(location.hash).catch((error) => {
    page.follow();
    say(lineOf(error));
  });
  page.panel.begin();
  globalThis.addEventListener("online", () => page.follow());
  for (let times = 0, lost = await untilLost(page); ; lost = await untilLost(page)) {
    times = lost.after < SOON ? times + 1 : 1;
    await reopened(page, `The graphics card was lost${lost.message ? ` (${lost.message})` : ""}`, times);
  }
}

/** Draw until the card is lost. @param {Page} page @returns {Promise<{message: string, after: number}>} why, and after how
 * many milliseconds */
async function untilLost(page) {
  const begin = performance.now(), lost = page.device.lost.then((info) => {
    page.screen.stop();
    return { message: info.message, after: performance.now() - begin };
  });
  try {
    await page.screen.run();
  } catch (error) { // of a card that is about to be lost, or an error of its own
    const why = await Promise.race([lost, new Promise((resolve) => setTimeout(resolve, 1000))]);
    if (!why) throw error;
  }
  return lost;
}

/** Open a card again that was lost; the address keeps camera and crop where that fails.
 * @param {Page} page @param {string} what happened @param {number} times one after the other */
async function reopened(page, what, times) {
  document.body.dataset.picture = "lost";
  try {
    if (times >= MOST_LOST) throw new Error("it is lost again and again");
    say(`${what}: it is opened again ...`);
    await page.take(await openDevice());
    say(`${what}, and was opened again: view and crop are the same.`);
  } catch (error) {
    history.replaceState(null, "", `#${page.panel.hash()}`);
    say(`${what}, and cannot be opened (${lineOf(error)}): reload the page, which then shows the same view and crop.`);
    await new Promise(() => {}); // nothing is drawn any more
  }
}

async function start() {
  byId("title").textContent = about.title;
  byId("description").textContent = about.description;
  /** @type {Field | undefined} */ let field;
  try {
    if (!navigator.gpu) await openDevice(); // says why
    field = await openField(await fieldSource(), { onProgress: progress, onNotice: say });
    await draw(field);
  } catch (error) {
    if (error instanceof NoGpu || error instanceof FieldError || !field) return showStill(lineOf(error));
    showStill(`The scene cannot be drawn: ${lineOf(error)}`);
  }
}

void start();
