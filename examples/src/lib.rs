//! The processes people run: `server`, `client` and `cluster`. Each is a thin shell; the crates do the work.

pub mod command;
pub mod console;
