//! Settings of the Kubernetes client, as the configuration was resolved.

use std::{path::PathBuf, time::Duration};

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How the API is reached.
    pub access: Access,
    /// Whether the node's pods are watched.
    pub watches_pods: bool,
    /// What is said of the node.
    pub node: Option<NodeSettings>,
}

/// How the API is reached. Files are read again with each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Such as `https://10.0.0.1:443`; `None` for the one that pods are told of by their environment.
    pub server: Option<String>,
    /// Who may sign its certificate.
    pub ca_file: PathBuf,
    /// What is shown to it.
    pub token_file: PathBuf,
}

/// What is said of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Who removes the taint.
    pub mode: Mode,
    /// Its key.
    pub taint: String,
    /// How long the agent may be unready before the taint goes all the same.
    pub fail_open: Duration,
    /// How often the node is looked at.
    pub check: Duration,
    /// How often the condition is written when nothing has changed.
    pub heartbeat: Duration,
    /// Where it is kept since when the agent has been unready, over its restarts.
    pub state_directory: PathBuf,
}

/// Who removes the startup taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The agent.
    Own,
    /// A controller that looks at the condition. The agent never writes the node's specification.
    Condition,
}

/// Whether it is a node's name: a DNS name, which can stand in a path and in a selector as it is.
pub fn is_node_name(name: &str) -> bool {
    const MOST: usize = 253;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !name.is_empty() && name.len() <= MOST && name.bytes().all(is_plain) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_node_never_comes_into_a_path() {
        assert!(is_node_name("aks-pool1-12345-vmss000000") && is_node_name("node-1.example.com"));
        for name in ["", "..", "a/b", "a?b", "a,b", "A", "a%2f", "a=b", &"a".repeat(254)] {
            assert!(!is_node_name(name), "{name}");
        }
    }
}
