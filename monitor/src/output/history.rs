//! Findings that the hub's ring does not hold any more, read from the spool: for subscribers that come back, and for List.
//!
//! Reading may wait for the disk, so it happens on a thread for that.

use std::sync::Arc;

use prost::Message as _;
use tokio::task::JoinHandle;
use tonic::Status;
use uuid::Uuid;

use super::{
    cursor,
    filter::Choice,
    hub::{Hub, OpenError},
    spool::{
        Spool,
        frame::Kind,
        reader::{Item, Most, Reader},
    },
};
use crate::proto::v1::{Finding, ListRequest, ListResponse, LossReport};

/// Most findings and bytes that one look reads.
const LOOK: Most = Most { entries: 256, bytes: 1 << 20 };
/// Findings on a page, at most and if nothing is said, its bytes, and findings that are looked at for one.
const PAGE: (usize, usize) = (1000, 100);
const PAGE_BYTES: usize = 1 << 20;
const PAGE_LOOKS: usize = 10_000;

/// What stands in the spool, one thing after the other.
#[derive(Debug)]
pub(super) enum Told {
    /// A finding of a run.
    Finding(String, Box<Finding>),
    /// What is missing; where it stands.
    Loss(String, u64, LossReport),
}

/// A reader of the spool that waits on another thread.
#[derive(Debug)]
pub(super) enum History {
    /// Nothing is read now.
    Idle(Reader),
    /// Something is.
    Reading(JoinHandle<(Reader, Vec<Told>)>),
    /// The runtime ended while it was.
    Gone,
}

impl History {
    pub(super) fn new(reader: Reader) -> Self {
        Self::Idle(reader)
    }

    /// What comes next; nothing at the end. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Vec<Told> {
        if let Self::Idle(_) = self
            && let Self::Idle(mut reader) = std::mem::replace(self, Self::Gone)
        {
            *self = Self::Reading(tokio::task::spawn_blocking(move || {
                let told = look(&mut reader, LOOK);
                (reader, told)
            }));
        }
        let Self::Reading(reading) = self else { return Vec::new() };
        match reading.await {
            Ok((reader, told)) => {
                *self = Self::Idle(reader);
                told
            }
            Err(_) => {
                *self = Self::Gone;
                Vec::new()
            }
        }
    }
}

fn look(reader: &mut Reader, most: Most) -> Vec<Told> {
    loop {
        let items = reader.read(most);
        let end = items.is_empty();
        let told: Vec<Told> = items.into_iter().filter_map(tell).collect();
        if end || !told.is_empty() {
            return told;
        }
    }
}

fn tell(item: Item) -> Option<Told> {
    match item {
        Item::Entry(entry) if entry.kind == Kind::FINDING => {
            let finding = Finding::decode(entry.payload).ok()?;
            Some(Told::Finding(entry.epoch.to_string(), Box::new(finding)))
        }
        Item::Entry(entry) if entry.kind == Kind::LOSS => {
            Some(Told::Loss(entry.epoch.to_string(), entry.sequence, LossReport::decode(entry.payload).ok()?))
        }
        Item::Entry(_) => None,
        Item::Missing { findings, cause, epoch, first_sequence } => {
            let epoch = epoch.to_string();
            let behind = (first_sequence + findings).saturating_sub(1);
            let cause = cause.word().to_owned();
            let loss = LossReport { findings, cause, epoch: epoch.clone(), first_sequence, ..LossReport::default() };
            Some(Told::Loss(epoch, behind, loss))
        }
    }
}

/// Where a cursor of a run leads in the spool.
pub(super) fn at(spool: &Spool, epoch: &str, sequence: u64) -> Option<Reader> {
    let epoch = Uuid::try_parse(epoch).ok()?;
    let mut reader = spool.reader(spool.after(epoch, sequence)?);
    reader.skip_to(epoch, sequence);
    Some(reader)
}

/// A page of findings.
pub(super) async fn list(hub: &Arc<Hub>, request: ListRequest) -> Result<ListResponse, Status> {
    let until = (request.until_unix_nano > 0).then_some(request.until_unix_nano);
    let choice = Choice::new(request.filter.unwrap_or_default(), request.fields)
        .map_err(|error| Status::invalid_argument(error.to_string().replacen("open.", "", 1)))?
        .between(request.since_unix_nano, until);
    let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
        0 => PAGE.1,
        size if size <= PAGE.0 => size,
        _ => return Err(Status::invalid_argument(format!("page_size: more than {}", PAGE.0))),
    };
    let Some(spool) = hub.history() else {
        return Ok(hub.list_ring(&choice, &request.page_token, size)?);
    };
    let reader = if request.page_token.is_empty() {
        spool.reader(spool.earliest())
    } else {
        let (epoch, position) = cursor::parse(&request.page_token)
            .map_err(|error| Status::invalid_argument(format!("page_token: {error}")))?;
        at(spool, epoch, position.sequence)
            .ok_or_else(|| Status::not_found("page_token: nothing of that run is left"))?
    };
    let page = tokio::task::spawn_blocking(move || page(reader, &choice, size));
    page.await.map_err(|_| Status::unavailable("the agent ends"))
}

fn page(mut reader: Reader, choice: &Choice, size: usize) -> ListResponse {
    let mut response = ListResponse::default();
    let (mut bytes, mut looked) = (0, 0);
    loop {
        let told = look(&mut reader, Most { entries: 1, ..LOOK });
        if told.is_empty() {
            return response;
        }
        for told in told {
            match told {
                Told::Loss(_, _, loss) => response.losses.push(loss),
                Told::Finding(epoch, finding) => {
                    looked += 1;
                    if choice.passes(&finding) {
                        let finding = choice.masked(&finding);
                        bytes += finding.encoded_len();
                        response.findings.push(finding);
                    }
                    if response.findings.len() >= size || bytes >= PAGE_BYTES || looked >= PAGE_LOOKS {
                        let position = cursor::Position { sequence: finding.sequence, ..cursor::Position::default() };
                        response.next_page_token = position.cursor(&epoch);
                        return response;
                    }
                }
            }
        }
    }
}

impl From<OpenError> for Status {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Invalid { .. } => Status::invalid_argument(error.to_string()),
            OpenError::TooManySubscribers(_) => Status::resource_exhausted(error.to_string()),
        }
    }
}
