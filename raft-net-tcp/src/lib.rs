//! raft-net-tcp
