// What the scene's own networks say of a place.

@group(1) @binding(0) var<storage, read> rows: array<vec4f>;            // weights of each slot's row
@group(1) @binding(1) var<storage, read> grids: array<vec4f>;           // feature grid of each slot's row
@group(1) @binding(2) var<storage, read> shared_weights: array<vec4f>;
@group(1) @binding(3) var<storage, read> table: array<f32>;             // the shared part's grid

fn outputs_in(place: Place) -> Outputs { return outputs_at(place.unit, place.local, place.slot); }
