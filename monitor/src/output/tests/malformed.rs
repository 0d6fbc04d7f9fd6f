//! Consumers that break the protocol, say nothing, or send what is no message.
use std::{path::Path, time::Duration};

use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::*;

/// What a stream that breaks the protocol ends with.
async fn refusal(path: &Path, requests: Vec<SubscribeRequest>) -> Status {
    let mut client = FindingsClient::new(channel(path).await);
    let mut responses = client.subscribe(tokio_stream::iter(requests)).await.unwrap().into_inner();
    loop {
        match tokio::time::timeout(LONG, responses.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_refused() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    let long = Open { consumer: "c".repeat(257), ..Open::default() };
    let long = SubscribeRequest { request: Some(subscribe_request::Request::Open(long)) };
    for (requests, expected) in [
        (vec![], "the stream ended before it was opened"),
        (vec![SubscribeRequest::default()], "request: the first must be open"),
        (vec![open(StartFrom::Tail), open(StartFrom::Tail)], "request: nothing but credit may follow open"),
        (vec![open(StartFrom::Tail), SubscribeRequest::default()], "request: nothing but credit may follow open"),
        (vec![open(StartFrom::Cursor)], "open.cursor: not a cursor of an agent"),
        (vec![long], "open.consumer: longer than 256 bytes"),
    ] {
        let status = refusal(&path, requests).await;
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_consumer_that_does_not_open_is_sent_away() {
    let (_directory, path) = place();
    let limits = Limits { open_within: Duration::from_millis(20), ..Limits::default() };
    let agent = Agent::start(&path, Hub::with_limits("e", limits)).await;
    let (_silent, requests) = mpsc::channel(1);
    let mut client = FindingsClient::new(channel(&path).await);
    let mut responses = client.subscribe(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let status = tokio::time::timeout(LONG, responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    agent.stop().await;
}

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_harm_nobody() {
    let (_directory, path) = place();
    let agent = Agent::start(&path, Hub::new("e")).await;
    agent.hub.publish(Arc::new(sample::drift(1)));

    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x0a\x7f", b"\x0a\x03\x0a\x01\xff", &vec![0x0a; 100_000]] {
        let mut client = tonic::client::Grpc::new(channel(&path).await);
        client.ready().await.unwrap();
        let request = Request::new(tokio_stream::once(Bytes::copy_from_slice(garbage)));
        let method = "/monitor.v1.Findings/Subscribe".parse().unwrap();
        let result = client.streaming(request, method, Raw).await;
        let mut responses = result.unwrap().into_inner();
        let status = tokio::time::timeout(LONG, responses.next()).await.unwrap().unwrap().unwrap_err();
        let expected = if garbage.len() > 64 << 10 { Code::OutOfRange } else { Code::InvalidArgument };
        assert_eq!(status.code(), expected, "{status:?}");
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\xff\0\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(garbage).await.unwrap();
    }

    let (_, findings) = collect(Options { count: Some(1), ..options(&path, StartFrom::Earliest) }).await;
    assert_eq!(findings, [sample::drift(1)]);
    let gone = async {
        while agent.hub.subscribers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
    agent.stop().await;
}
