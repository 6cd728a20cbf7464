//! Integration tests of raft-kv, in one binary.

// `cfg(test)` always holds here. It tells clippy that the helpers are tests too: see clippy.toml.
#[cfg(test)]
mod bit_flips;
#[cfg(test)]
mod block_log;
#[cfg(test)]
mod crash_images;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod literal_oracle;
#[cfg(test)]
mod literal_texts;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod suite;
