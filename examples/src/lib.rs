//! The processes people run: `server`, `client` and `cluster`, and `chain`, which looks at what servers leave. Each is
//! a thin shell; the crates do the work.

pub mod bench;
pub mod chain;
pub mod children;
pub mod client;
pub mod cluster;
pub mod command;
pub mod console;
pub mod execute;
mod life;
pub mod load;
pub mod notices;
pub mod options;
mod progress;
pub mod prompt;
mod remedy;
mod scrub;
pub mod server;
