// @ts-check
/** The page's controls: what its buttons, fields and handles do. */

import { Controls } from "./controls.js";
import { cropFile, regionJson } from "./crop.js";
import { site } from "./loader.js";
import { nearBounds } from "./occupancy.js";
import { hashOf } from "./share.js";
import { BoxShape, SphereShape, Units } from "./shapes.js";
import { cellLines } from "./wire.js";

const byId = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const about = site();
/** Pages narrower than this begin without the controls, pixels. */
const NARROW = 640;

/** Give the visitor a file. @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export class Panel {
  /** @param {any} page */
  constructor(page) {
    this.page = page;
    this.tool = "cells";
    this.units = { scene: Units.scene, world: Units.world(page.field.scene.scene_to_world) };
    /** @type {BoxShape | SphereShape | null} */ this.shape = null;
    /** @type {number[]} */ this.cells = [];
    this.controls = new Controls(page.screen, {
      handles: () => this.shape?.handles ?? [],
      dragged: () => this.reshaped(),
      dropped: () => this.reshaped(),
      clicked: (x, y) => void this.attempt(() => this.click(x, y)),
      flies: () => byId("fly").checked,
    });
    this.stem = (about.field || "scene").replace(/^.*\//, "").replace(/\.safetensors$/, "");
    this._wire();
  }

  get edit() { return this.page.edit; }
  get screen() { return this.page.screen; }

  /** Do what a control asks for, and say what is wrong. @param {() => any} act */
  async attempt(act) {
    this.page.say("");
    try {
      await act();
    } catch (error) {
      this.page.say(String(/** @type {any} */ (error)?.message ?? error).split("\n")[0]);
    }
  }

  _wire() {
    const on = (/** @type {string} */ id, /** @type {() => any} */ act, kind = "click") =>
      byId(id).addEventListener(kind, () => void this.attempt(act));
    const { edit } = this;
    for (const name of /** @type {("grow" | "shrink" | "invert" | "clear" | "reset")[]} */ (["grow", "shrink", "invert", "clear", "reset"])) on(name, () => edit[name]());
    on("undo", () => edit.go(-1));
    on("redo", () => edit.go(1));
    on("keep-selected", () => edit.cropSelected(false));
    on("remove-selected", () => edit.cropSelected(true));
    on("keep-shape", () => this.cropShape(false));
    on("remove-shape", () => this.cropShape(true));
    on("select-shape", () => edit.selectIn(this.region));
    on("home", () => this.look(() => this.page.home(true)));
    on("screenshot", async () => save(await this.screen.screenshot(), `${this.stem}.png`));
    on("share", () => this.share());
    on("download", () => this.download());
    on("region", () => this.downloadRegion());
    on("play", () => this.play());
    on("output", () => this.show("output"), "change");
    on("quality", () => this.show("quality"), "change");
    on("wires", () => this.update(), "change");
    on("preview", () => this.reshaped(), "change");
    on("units", () => this.choose(this.tool), "change");
    on("toggle", () => this.fold(!byId("panel").hidden));
    this.fold(globalThis.innerWidth < NARROW);
    for (const tab of document.querySelectorAll("[data-tool]")) {
      tab.addEventListener("click", () => void this.attempt(() => this.choose(/** @type {HTMLElement} */ (tab).dataset.tool ?? "cells")));
    }
    globalThis.addEventListener("resize", () => this.screen.change(true));
    globalThis.addEventListener("hashchange", () => void this.attempt(() => this.page.open(location.hash)));
    globalThis.addEventListener("keydown", (event) => this._shortcut(event));
    this._views();
  }

  /** Hide the controls, or show them: the picture has what they leave free. @param {boolean} away */
  fold(away) {
    byId("panel").hidden = away;
    document.body.dataset.panel = away ? "away" : "open";
    byId("toggle").setAttribute("aria-expanded", String(!away));
    this.screen.change(true);
  }

  /** @param {KeyboardEvent} event */
  _shortcut(event) {
    if (!(event.ctrlKey || event.metaKey) || event.code !== "KeyZ" || event.target instanceof HTMLInputElement) return;
    event.preventDefault();
    void this.attempt(() => this.edit.go(event.shiftKey ? 1 : -1));
  }

  _views() {
    for (const view of about.views) {
      const button = document.createElement("button");
      button.textContent = view.name;
      button.addEventListener("click", () => this.look(() => this.page.lookFrom(view)));
      byId("views").append(button);
    }
    byId("play").hidden = !about.path?.cameras.length;
  }

  /** The page is drawn from now on. */
  begin() {
    const { screen } = this, before = screen.onPicture;
    screen.onPicture = (/** @type {any} */ picture, /** @type {boolean} */ sharp) => {
      before(picture, sharp);
      this.dots();
    };
    this.update();
  }

  /** @param {() => void} act */
  look(act) {
    this.playing = 0;
    act();
    this.screen.change(true);
  }

  /** @param {"output" | "quality"} name */
  show(name) {
    this.screen[name] = byId(name).value;
    this.screen.change();
  }

  /** Fly along the camera path. */
  play() {
    const path = about.path, begin = performance.now(), run = (this.playing = begin);
    if (!path) return;
    const step = () => {
      const at = ((performance.now() - begin) / 1000 / Math.max(0.1, path.seconds)) * (path.cameras.length - 1);
      if (this.playing !== run) return;
      const low = Math.min(path.cameras.length - 1, Math.floor(at)), high = Math.min(path.cameras.length - 1, low + 1), part = Math.min(1, at - low);
      const [a, b] = [path.cameras[low], path.cameras[high]], mix = (/** @type {number} */ x, /** @type {number} */ y) => x + (y - x) * part;
      const camera = a.camera.map((row, i) => row.map((v, k) => mix(v, b.camera[i][k])));
      this.page.lookFrom({ name: "", camera, focal: mix(a.focal, b.focal) });
      this.screen.change(true);
      if (at < path.cameras.length - 1) requestAnimationFrame(step);
    };
    step();
  }

  // -- crop

  /** What the box or the sphere holds. */
  get region() {
    if (!this.shape) throw new Error("Choose the box or the sphere first.");
    return this.shape.region;
  }

  /** Take another tool, or other units. @param {string} tool */
  choose(tool) {
    const before = this.shape, units = this.units[/** @type {"scene" | "world"} */ (byId("units").value)];
    for (const tab of document.querySelectorAll("[data-tool]")) {
      tab.setAttribute("aria-selected", String(/** @type {HTMLElement} */ (tab).dataset.tool === tool));
    }
    this.tool = tool;
    this.shape = tool === "box" ? new BoxShape(units) : tool === "sphere" ? new SphereShape(units) : null;
    if (this.shape) {
      if (before && before.kind === this.shape.kind && sameAxes(before.units, units)) Object.assign(this.shape, { ...before, units });
      else this.shape.around(nearBounds(this.page.field, this.page.renderer.bounds));
    }
    byId("cells-tool").hidden = tool !== "cells";
    byId("shape-tool").hidden = tool === "cells";
    this._numbers();
    this.reshaped();
  }

  _numbers() {
    byId("numbers").replaceChildren(...(this.shape?.numbers ?? []).map(([name], index) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "number", step: "any", name });
      input.addEventListener("change", () => {
        if (Number.isFinite(input.valueAsNumber)) this.shape?.set(index, input.valueAsNumber);
        this.reshaped();
      });
      label.append(name, input);
      return label;
    }));
  }

  /** The box or the sphere is another one. */
  reshaped() {
    const inputs = byId("numbers").querySelectorAll("input");
    this.shape?.numbers.forEach(([, value], k) => (inputs[k].value = String(Number(value.toPrecision(5)))));
    this.previewed();
    this.lines();
  }

  /** Show what is inside only, if it is wished. */
  previewed() {
    const { edit, page } = this, { shape } = edit.state;
    if (!this.shape || !byId("preview").checked) return page.mask(edit.region);
    page.mask(both(edit.masked(shape), this.region));
  }

  /** @param {boolean} remove */
  cropShape(remove) {
    this.edit.cropShape(this.region, remove);
    if (remove) byId("preview").checked = false;
    this.reshaped();
  }

  /** @param {number} x @param {number} y */
  async click(x, y) {
    if (this.tool !== "cells") return;
    const row = await this.screen.rowAt(x, y);
    if (row >= 0) this.edit.toggle(row);
  }

  // -- what the page says

  update() {
    const { edit, page } = this, { field } = page;
    byId("undo").disabled = !edit.canUndo;
    byId("redo").disabled = !edit.canRedo;
    byId("reset").disabled = !edit.cropped;
    byId("download").disabled = byId("region").disabled = !edit.cropped;
    for (const id of ["keep-selected", "remove-selected", "clear", "grow", "shrink"]) byId(id).disabled = !edit.numSelected;
    const chosen = edit.numSelected ? `, ${edit.numSelected} selected` : "";
    byId("kept").textContent = `${edit.numKept} of ${field.numRows} cells kept${chosen}`;
    const { kept, selected } = edit.state;
    this.cells = byId("wires").checked ? cellLines(field, kept, selected)
      : edit.numSelected ? cellLines(field, selected, selected) : [];
    if (this.shape) this.previewed();
    this.lines();
  }

  lines() {
    this.screen.draw([...this.cells, ...(this.shape?.lines() ?? [])]);
    this.dots();
  }

  /** Put the handles where they are seen. */
  dots() {
    const { screen } = this, { clientWidth, clientHeight } = screen.canvas;
    byId("dots").replaceChildren(...(this.shape?.handles ?? []).flatMap((handle) => {
      const at = screen.orbit.project(handle.at, screen.aspect);
      if (!at) return [];
      const dot = document.createElement("i");
      dot.style.left = `${at[0] * clientWidth}px`;
      dot.style.top = `${at[1] * clientHeight}px`;
      return [dot];
    }));
  }

  // -- what a visitor takes along

  hash() { return hashOf(this.screen.orbit, this.edit); }

  async share() {
    history.replaceState(null, "", `#${this.hash()}`);
    try {
      await navigator.clipboard.writeText(location.href);
      this.page.say("The link is copied: it carries camera and crop.");
    } catch {
      this.page.say("The link is in the address line: it carries camera and crop.");
    }
  }

  async download() {
    const keep = this.edit.keep;
    if (!keep) throw new Error("Nothing is cropped: the whole scene is the file itself.");
    this.page.say("Fetching what the crop lacks ...");
    const blob = await cropFile(this.page.field, keep);
    save(blob, `${this.stem}-crop.safetensors`);
    this.page.say(`${this.stem}-crop.safetensors: ${blob.size.toLocaleString("en")} bytes`);
  }

  downloadRegion() {
    const keep = this.edit.keep;
    if (!keep) throw new Error("Nothing is cropped: there is no region to say.");
    if (keep.within) throw new Error("A region file says a shape or cells, not both: download the crop, or undo one of them.");
    save(new Blob([regionJson(this.page.field, keep)], { type: "application/json" }), `${this.stem}-region.json`);
  }
}

/** @param {Units} a @param {Units} b */
const sameAxes = (a, b) => a.axes.every((axis, k) => axis.every((v, i) => Math.abs(v - b.axes[k][i]) < 1e-9));

/** Points in both of two regions, without joining boxes that do not meet. @param {any} a @param {any} b */
function both(a, b) {
  return a ? { kind: "intersection", parts: [a, b] } : b;
}
