// The page's modules against vectors that the Python code wrote: both sides agree on text, numbers and space.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const STATIC = process.env.LG_FIELD_STATIC, vectors = JSON.parse(await readFile(process.env.LG_FIELD_VECTORS, "utf8"));
const { Float, dumps, floatText, parse, plain } = await import(STATIC + "json.js");
const { floats, integers, packBits, unpackBits } = await import(STATIC + "numbers.js");
const { headerBytes, readHeader, writingOrder } = await import(STATIC + "container.js");
const { Frame, Grid, contract, contractBox, regionFromDict, uncontract, uncontractBox } = await import(STATIC + "space.js");
const { planned, WASTE } = await import(STATIC + "plan.js");
const { SIZES, hashLines, tensorsOf } = await import(STATIC + "schema.js");

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

test("floats are written as Python writes them", () => {
  for (const { bits, text } of vectors.floats) {
    assert.equal(floatText(new Float64Array(bytes(bits).buffer)[0]), text);
  }
});

test("a description read and written again is the same text", () => {
  for (const text of vectors.texts) assert.equal(dumps(parse(text, "it")), text);
});

test("what JSON forbids, and names given twice, are refused in one line", () => {
  for (const text of vectors.bad) assert.throws(() => parse(text, "it"), { name: "FieldError", message: /^it is not a field file[^\n]*$/ });
});

test("plain data is what JSON.parse gives", () => {
  for (const text of vectors.texts) assert.deepEqual(plain(parse(text, "it")), JSON.parse(text));
  assert.equal(plain(new Float(2)), 2);
});

test("numbers of every type are read as torch reads them", () => {
  for (const { dtype, data, values } of vectors.numbers) assert.deepEqual([...floats(bytes(data), dtype, "it")], values);
  assert.throws(() => floats(bytes(vectors.infinite), "F16", "it"), /NaN or infinite/);
  assert.deepEqual([...integers(new Uint8Array(new BigInt64Array([0n, 7n, 16777215n]).buffer), "it")], [0, 7, 16777215]);
  assert.throws(() => integers(new Uint8Array(new BigInt64Array([-1n]).buffer), "it"), /no cells/);
});

test("bits are packed as in a file", () => {
  for (const { values, packed } of vectors.bits) {
    assert.deepEqual([...packBits(values)], packed);
    assert.deepEqual([...unpackBits(Uint8Array.from(packed), values.length)], values);
  }
});

test("a header is written as Python writes it, and read back", () => {
  const { shapes, metadata, header } = vectors.container;
  const given = new Map(Object.entries(shapes)), written = headerBytes(given, new Map(Object.entries(metadata)));
  assert.deepEqual(Buffer.from(written).toString("base64"), header);
  const size = written.length + [...given.values()].reduce((sum, { bytes: count }) => sum + count, 0);
  const { entries } = readHeader(written.subarray(8), size, "it");
  assert.deepEqual([...entries.keys()], writingOrder(given));
});

test("points are owned by the same cells", () => {
  for (const { grid, points, cells } of vectors.grids) {
    const made = new Grid(grid.counts, grid.lower, grid.upper);
    assert.deepEqual(points.map((point) => made.locate(point)), cells);
    for (const cell of new Set(cells)) if (cell >= 0) assert.equal(made.ravel(made.unravel(cell)), cell);
  }
});

test("scene points have the same unit coordinates and cells, curved or not, grown or not", () => {
  for (const { grid, contraction, box, points, unit, cells } of vectors.frames) {
    const frame = new Frame(new Grid(grid.counts, grid.lower, grid.upper), contraction, box);
    assert.deepEqual(points.map((point) => frame.toUnit(point)), unit);
    assert.deepEqual(points.map((point) => frame.locate(point)), cells);
  }
});

test("contraction and its inverse", () => {
  for (const { point, contracted, back } of vectors.contracted) {
    assert.deepEqual(contract(point), contracted);
    assert.deepEqual(uncontract(contracted), back);
  }
  for (const { box, around } of vectors.curvedBoxes) assert.deepEqual(uncontractBox(box), around);
  for (const { box } of vectors.curvedBoxes) {
    const there = contractBox(uncontractBox(box));
    for (const k of [0, 1, 2]) assert.ok(there[0][k] <= box[0][k] + 1e-6 && there[1][k] >= box[1][k] - 1e-6);
  }
});

test("regions hold the same points, touch the same cells, and are the same JSON", async () => {
  for (const { data, text, points, holds, grid, contraction, touched } of vectors.regions) {
    const region = await regionFromDict(data), cells = [...Array(grid.counts.reduce((a, b) => a * b)).keys()];
    assert.equal(dumps(region.typed()), text);
    assert.deepEqual(points.map((point) => region.contains(point)), holds, text.slice(0, 99));
    const found = region.touched(new Grid(grid.counts, grid.lower, grid.upper), cells, contraction);
    assert.deepEqual(cells.filter((cell) => found[cell]), touched, text.slice(0, 99));
  }
});

test("regions that make no sense are refused in one line", async () => {
  for (const data of vectors.badRegions) {
    await assert.rejects(async () => regionFromDict(data), { name: "FieldError", message: /^[^\n]{1,400}$/ }, JSON.stringify(data));
  }
});

test("sizes and tensors are those of the package", () => {
  assert.deepEqual(SIZES.map(([key]) => key), vectors.sizes);
  for (const { config, rows, shared, lines } of vectors.tensors) {
    const found = tensorsOf(config);
    assert.deepEqual(Object.fromEntries(found.rows), rows);
    assert.deepEqual(Object.fromEntries(found.shared), shared);
    assert.equal(hashLines(config), lines);
  }
});

test("requests cover what is wanted, waste little, and begin with the most wanted", () => {
  const tensors = [{ name: "features", rowBytes: 20000 }, { name: "local", rowBytes: 4000 }, { name: "none", rowBytes: 0 }];
  for (const step of [1, 2, 3, 7, 40]) {
    const wanted = [...Array(300).keys()].map((k) => (k * step * 37) % (300 * step)).filter((row) => row % step === 0);
    const groups = [...planned(wanted, tensors)], requests = groups.flat(), rows = new Set(wanted);
    const useful = rows.size * 24000, fetched = requests.reduce((sum, { bytes: count }) => sum + count, 0);
    assert.ok(fetched >= useful && fetched <= useful * (1 + WASTE), `${fetched} for ${useful}`);
    for (const name of ["features", "local"]) {
      const got = new Set();
      for (const { first, last } of requests.filter((request) => request.name === name)) for (let row = first; row < last; row++) got.add(row);
      for (const row of rows) assert.ok(got.has(row));
    }
    assert.ok(requests[0].first <= wanted[0] && wanted[0] < requests[0].last);
    for (const group of groups) assert.ok(group.every(({ rank }, k) => k === 0 || rank >= group[k - 1].rank));
    assert.ok(groups[0].reduce((sum, { bytes: count }) => sum + count, 0) <= useful / 4);
  }
  assert.deepEqual([...planned([], tensors)].flat(), []);
  const rest = [...planned([0, 1, 2, 3], tensors, (name, row) => name === "local" || row === 1)].flat();
  assert.deepEqual(rest.map(({ name, first, last }) => [name, first, last]).sort(), [["features", 0, 1], ["features", 2, 4]]);
});
