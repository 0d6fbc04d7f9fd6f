//! The watch of this node's pods: list, follow, and begin again wherever that breaks off.
//!
//! A watch that ends in good order goes on behind the last change; one that failed does so after a wait that grows; where the API has
//! forgotten that place (410) everything is listed again. What is not known meanwhile is said by nobody: events do not wait for it.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::Sender,
    time::{sleep, timeout},
};

use super::{
    api::{Api, ApiError},
    ledger::Ledger,
    pod::{Change, Page},
    service::say,
    settings::Access,
    status::Status,
    trouble::Trouble,
};
use crate::{output::push::Backoff, record, sensor::ktime_ns};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };
/// Pods of a page.
const PAGE: usize = 100;
/// Most pages of a list.
const MAX_PAGES: usize = 64;
/// How long the API keeps a watch open, in seconds.
const WATCH_S: u64 = 290;
/// A watch without a word for so long is dead: it should have ended.
const SILENCE: Duration = Duration::from_secs(WATCH_S + 30);

/// What is needed for it.
pub(super) struct Watch {
    pub(super) access: Access,
    pub(super) node_name: String,
    pub(super) records: Sender<Vec<u8>>,
    pub(super) status: Arc<Status>,
}

/// Nobody takes records any more.
struct Closed;

/// How a stretch of watching ended.
enum Ended {
    /// In good order.
    Quietly,
    /// Everything has to be listed again.
    Forgotten,
    Failed(ApiError),
    Closed,
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        if error.is_gone() { Self::Forgotten } else { Self::Failed(error) }
    }
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl Watch {
    /// Goes on until nobody takes records any more.
    pub(super) async fn run(self) {
        let begin = Instant::now();
        let (mut ledger, mut trouble) = (Ledger::default(), Trouble::default());
        // The version that everything is known of.
        let mut at = String::new();
        loop {
            let ended = match self.stretch(&mut at, &mut ledger, &mut trouble).await {
                Ok(()) => Ended::Quietly,
                Err(ended) => ended,
            };
            match ended {
                Ended::Closed => return,
                // A server that ends each watch at once must not be asked without a pause.
                Ended::Quietly => sleep(Duration::from_millis(100)).await,
                Ended::Forgotten => {
                    at.clear();
                    self.status.failed("gone", "the watch begins anew");
                    sleep(BACKOFF.after(1)).await;
                }
                Ended::Failed(error) => {
                    self.status.lost_watch();
                    self.status.failed(error.kind(), &error.to_string());
                    if trouble.failed(error.kind(), begin.elapsed()) {
                        say(&format!(
                            "pods are not watched: {error}; labels and digests of what is new are missing until they are"
                        ));
                    }
                    sleep(BACKOFF.after(trouble.failures())).await;
                }
            }
        }
    }

    async fn stretch(&self, at: &mut String, ledger: &mut Ledger, trouble: &mut Trouble) -> Result<(), Ended> {
        let api = Api::connect(&self.access)?;
        if at.is_empty() {
            *at = self.list(&api, ledger).await?;
        }
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={at}",
            self.path()
        );
        let mut lines = api.watch(&path).await?;
        self.status.watches();
        if trouble.is_over() {
            say(&format!("pods are watched again: {} known", ledger.len()));
        }
        while let Some(line) = timeout(SILENCE, lines.next()).await.map_err(|_| ApiError::Slow)?? {
            let change = Change::read(&line).ok_or_else(|| ApiError::Malformed("a line of the watch".to_owned()))?;
            let (document, version) = match &change {
                Change::Is(pod) => (ledger.is(pod), pod.resource_version()),
                Change::Gone(pod) => (ledger.gone(pod.uid()), pod.resource_version()),
                Change::At(version) => (None, version.as_str()),
                Change::Ended(code, message) => {
                    return Err(ApiError::Status { code: *code, message: message.clone() }.into());
                }
            };
            if is_version(version) {
                version.clone_into(at);
            }
            self.tell(document).await?;
            self.status.set_pods(ledger.len(), ledger.losses());
        }
        Ok(())
    }

    /// Takes all pods of the node, and what is gone of those that were known; the version of the list.
    async fn list(&self, api: &Api, ledger: &mut Ledger) -> Result<String, Ended> {
        let (mut next, mut listed) = (String::new(), HashSet::new());
        for _ in 0..MAX_PAGES {
            let page: Page = api.get(&format!("{}&limit={PAGE}{next}", self.path())).await?;
            for pod in &page.items {
                listed.insert(pod.uid().to_owned());
                self.tell(ledger.is(pod)).await?;
            }
            if page.metadata.next.is_empty() {
                for document in ledger.retain(&listed) {
                    self.tell(Some(document)).await?;
                }
                self.status.set_pods(ledger.len(), ledger.losses());
                let version = page.metadata.resource_version;
                let malformed = || ApiError::Malformed("a list without a version".to_owned());
                return if is_version(&version) { Ok(version) } else { Err(malformed().into()) };
            }
            next = format!("&continue={}", escaped(&page.metadata.next));
        }
        Err(ApiError::Large(MAX_PAGES * PAGE).into())
    }

    async fn tell(&self, document: Option<Vec<u8>>) -> Result<(), Closed> {
        let Some(document) = document else { return Ok(()) };
        self.status.count_record();
        self.records.send(record::pod(ktime_ns(), &document)).await.map_err(|_| Closed)
    }

    /// Pods that run here. Those that are done have no processes.
    fn path(&self) -> String {
        format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{}%2Cstatus.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed",
            self.node_name
        )
    }
}

/// Versions are opaque, but go into a path as they are.
fn is_version(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// As a value in a query.
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Text takes whatever is written.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_gives_back_goes_into_a_path_as_a_value() {
        assert_eq!(escaped("eyJ2Ij=+/&x=1"), "eyJ2Ij%3D%2B%2F%26x%3D1");
        assert!(is_version("12746") && !is_version("1&watch=false") && !is_version(""));
    }
}
