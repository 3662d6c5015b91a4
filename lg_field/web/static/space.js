// @ts-check
/** Space: the grid, contraction, which cell owns a point (`grid.js`); regions (`regions.js`, `joined.js`). */

export { Frame, Grid, contract, contractBox, uncontract, uncontractBox } from "./grid.js";
export { AxisBox, HalfSpace, OrientedBox, Region, Sphere } from "./regions.js";
export { VoxelSet, and, box, not, or, regionFromDict, sphere } from "./joined.js";
