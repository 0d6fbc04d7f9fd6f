//! The request of `FindingsSink.Deliver`, made of findings that are encoded already.
//!
//! A message and its bytes are the same on the wire: what the spool keeps goes out as it is, without being decoded once for
//! each sink.

use bytes::Bytes;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Channel};
use tonic_prost::ProstCodec;

use super::batch::Batch;
use crate::proto::v1::{DeliverResponse, LossReport, Source};

/// Longest answer that is read.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// `DeliverRequest` with its findings as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncodedRequest {
    #[prost(message, optional, tag = "1")]
    source: Option<Source>,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(uint64, tag = "3")]
    first_sequence: u64,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    findings: Vec<Bytes>,
    #[prost(message, repeated, tag = "5")]
    losses: Vec<LossReport>,
    #[prost(bool, tag = "6")]
    redelivery: bool,
}

/// The request of a batch.
pub(super) fn request(source: &Source, batch: &Batch) -> EncodedRequest {
    EncodedRequest {
        source: Some(source.clone()),
        epoch: batch.epoch.to_string(),
        first_sequence: batch.first_sequence(),
        findings: batch.findings.iter().map(|entry| entry.payload.clone()).collect(),
        losses: batch.losses.clone(),
        redelivery: batch.attempts > 0,
    }
}

/// Sends it.
pub(super) async fn deliver(
    channel: Channel,
    gzip: bool,
    request: Request<EncodedRequest>,
) -> Result<Response<DeliverResponse>, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    if gzip {
        client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    }
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/monitor.v1.FindingsSink/Deliver");
    client.unary(request, path, ProstCodec::<EncodedRequest, DeliverResponse>::default()).await
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        output::{
            sample,
            spool::{cursor::Position, frame::Kind, reader::Entry},
        },
        proto::v1::DeliverRequest,
    };

    #[test]
    fn the_request_is_the_contracts_on_the_wire() {
        let epoch = uuid::Uuid::from_u128(7);
        let finding = |sequence| sample::drift(sequence);
        let entry = |sequence| Entry {
            kind: Kind::FINDING,
            epoch,
            index: sequence,
            sequence,
            payload: finding(sequence).encode_to_vec().into(),
        };
        let losses = vec![LossReport { findings: 2, cause: "evicted".to_owned(), ..LossReport::default() }];
        let end = Position { index: 5, epoch, sequence: 4 };
        let batch =
            Batch { epoch, findings: vec![entry(3), entry(4)], losses: losses.clone(), start: 1, end, attempts: 1 };
        let source = Source { node_name: "n".to_owned(), ..Source::default() };
        let encoded = request(&source, &batch).encode_to_vec();
        let expected = DeliverRequest {
            source: Some(source),
            epoch: epoch.to_string(),
            first_sequence: 3,
            findings: vec![finding(3), finding(4)],
            losses,
            redelivery: true,
        };
        assert_eq!(DeliverRequest::decode(&*encoded).unwrap(), expected);
    }
}
