"""Shapes: plain vectorized functions from parameter arrays to meshes.

The protocol. A shape is a function whose array parameters hold one value per mesh ((m,) or (m, k); scalars
broadcast) and whose keyword-only integers (segment counts) are static. It returns `imgsynth.batch.Meshes`:
`m` meshes of one topology, whatever the values, so that a batch of frames costs one call.

- Lengths in metres in the object's frame, its centre at the origin unless said otherwise.
- Triangles wind counter-clockwise seen from outside; normals are unit length and those of the ideal surface,
  not of its tessellation. Vertices lie on the ideal surface, so curved silhouettes are inscribed.
- Closed shapes are crack-free: vertices that a seam of texture or normal doubles have bit-identical
  positions.
- Slot 0, "main", is the object's own material. Where a shape has further slots they are named in
  `slot_names`; whoever assigns materials gives an unnamed slot the main one.
- `directions` names directions of the object's frame, each (3,) or, where they differ by mesh, (m, 3).
- Parameters outside their range raise `SceneError` naming parameter, value and mesh: never a broken mesh.

A user's own shape is any function that keeps to this. Each module is imported by whoever needs it;
importing this package loads nothing.
"""
