//! Oracles: whether the outcome of any input is right. The record contract as a slow and obvious
//! reference, and a property for each reader of strange input.
//!
//! Pure, and small to build: the fuzz targets of `tests/fuzz` need nothing else, and the tests
//! check the same.

pub mod configuration;
pub mod decode;
pub mod export;
pub mod reference;
pub mod reply;
pub mod routes;
