//! Integration tests of raft-kv, in one binary.

mod literal_oracle;
mod literal_texts;
