//! Refusals as operators and users read them: nodes of the protocol are their servers.

use std::fmt;

use raft_core::Refusal;

/// Displays a refusal, with servers where the protocol speaks of nodes.
#[derive(Clone, Copy, Debug)]
pub struct InWords<'a>(pub &'a Refusal);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::NotLeader { leader: Some(leader) } => write!(f, "server {leader} is the leader: ask it"),
            Refusal::ReadTimeout { leader: Some(leader) } => {
                write!(f, "this server could not serve the read in time: server {leader} is the leader: ask it")
            }
            Refusal::TransferInProgress { target } => write!(f, "leadership goes to server {target}: ask it"),
            Refusal::NotVoter { id } => write!(f, "server {id} is no voter"),
            Refusal::DiskLost { id } => write!(
                f,
                "server {id} has lost its disk and cannot count as a voter: remove it first, then add it again"
            ),
            Refusal::VoterSilent { id } => write!(
                f,
                "server {id} does not answer, and without it the voters would be no majority: start it, or remove it \
                 first"
            ),
            refusal => refusal.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use raft_core::NodeId;

    use super::*;

    #[test]
    fn nobody_reads_of_nodes() {
        let (id, leader) = (NodeId(7), Some(NodeId(7)));
        for refusal in [
            Refusal::NotLeader { leader },
            Refusal::ReadTimeout { leader },
            Refusal::TransferInProgress { target: id },
            Refusal::NotVoter { id },
            Refusal::DiskLost { id },
            Refusal::VoterSilent { id },
        ] {
            let text = InWords(&refusal).to_string();
            assert!(text.contains("server 7") && !text.contains("node"), "{text}");
        }
        assert_eq!(InWords(&Refusal::Unchanged).to_string(), Refusal::Unchanged.to_string());
    }
}
