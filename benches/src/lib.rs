//! What the micro-benches share: seeded records of a size, and batches of them. Knows nothing of what is measured.
