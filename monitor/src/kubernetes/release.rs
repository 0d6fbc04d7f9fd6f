//! `monitor node release`: takes the startup taint and the condition of the agent away from nodes, for when it is uninstalled.

use serde::Deserialize;

use super::{
    api::{Api, ApiError, Patch},
    node::{Metadata, Node},
    settings::Access,
};

/// Tries of a patch that is refused because the node has changed meanwhile.
const TRIES: usize = 5;
/// Nodes of a page, and most pages.
const PAGE: usize = 100;
const MAX_PAGES: usize = 200;

/// What was done to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Its taint was removed.
    pub taint: bool,
    /// Its condition was removed.
    pub condition: bool,
}

/// Names of all nodes.
pub async fn names(access: &Access) -> Result<Vec<String>, ApiError> {
    #[derive(Deserialize)]
    struct List {
        metadata: Continue,
        #[serde(default)]
        items: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Continue {
        #[serde(default, rename = "continue")]
        next: String,
    }
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    let api = Api::connect(access)?;
    let (mut names, mut next) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let list: List = api.get(&format!("/api/v1/nodes?limit={PAGE}{next}")).await?;
        names.extend(list.items.into_iter().map(|node| node.metadata.name));
        if list.metadata.next.is_empty() {
            return Ok(names);
        }
        next = format!("&continue={}", super::watch::escaped(&list.metadata.next));
    }
    Err(ApiError::Large(MAX_PAGES * PAGE))
}

/// Releases a node.
pub async fn release(access: &Access, name: &str, taint: &str) -> Result<Released, ApiError> {
    let api = Api::connect(access)?;
    let path = format!("/api/v1/nodes/{name}");
    let mut released = Released::default();
    for attempt in 1..=TRIES {
        let node: Node = api.get(&path).await?;
        if node.has_condition() && !released.condition {
            let change = Node::without_condition();
            api.patch::<Node>(&format!("{path}/status"), Patch::StrategicMerge, &change).await?;
            released.condition = true;
        }
        let Some(change) = node.without_taint(taint) else { break };
        match api.patch::<Node>(&path, Patch::Json, &change).await {
            Ok(_) => {
                released.taint = true;
                break;
            }
            Err(error) if error.is_conflict() && attempt < TRIES => {}
            Err(error) => return Err(error),
        }
    }
    Ok(released)
}
