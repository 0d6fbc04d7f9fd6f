"""Follows an agent: `tail_client.py TARGET [COUNT]`, such as unix:///run/monitor/monitor.sock."""
import sys
import threading

import grpc
from google.protobuf.json_format import MessageToJson

from monitor.v1 import finding_pb2, findings_pb2, findings_pb2_grpc


def main():
    target, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
    closed = threading.Event()

    def requests():
        yield findings_pb2.SubscribeRequest(
            open=findings_pb2.Open(
                consumer="python example",
                start_from=findings_pb2.START_FROM_EARLIEST,
                filter=findings_pb2.Filter(min_priority=finding_pb2.PRIORITY_NOTICE),
            )
        )
        # The half stays open as long as we listen.
        closed.wait()

    cursor = ""
    # Without this, gRPC sends a unix socket's path as the name of the host, which no server takes.
    options = [("grpc.default_authority", "localhost")] if target.startswith("unix:") else []
    with grpc.insecure_channel(target, options=options) as channel:
        responses = findings_pb2_grpc.FindingsStub(channel).Subscribe(requests())
        try:
            for response in responses:
                kind = response.WhichOneof("response")
                if kind == "batch":
                    for finding in response.batch.findings:
                        print(MessageToJson(finding, preserving_proto_field_name=True, indent=None), flush=True)
                        if count is not None:
                            count -= 1
                            if count == 0:
                                return
                    cursor = response.batch.cursor
                elif kind == "loss":
                    print(f"lost: {response.loss.findings} findings ({response.loss.cause})", file=sys.stderr)
                    cursor = response.loss.cursor
                elif kind == "heartbeat":
                    cursor = response.heartbeat.cursor
        except KeyboardInterrupt:
            pass
        finally:
            closed.set()
            responses.cancel()
            print(f"cursor: {cursor}", file=sys.stderr)


if __name__ == "__main__":
    main()
