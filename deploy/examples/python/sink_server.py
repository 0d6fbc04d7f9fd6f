"""A sink in Python: agents push findings to it. `sink_server.py ADDRESS`, such as 127.0.0.1:8443."""
import sys
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToJson

from monitor.v1 import delivery_pb2, delivery_pb2_grpc


class Sink(delivery_pb2_grpc.FindingsSinkServicer):
    """Takes every batch once: what comes again has a uid that is known."""

    def __init__(self):
        self.seen = set()

    def Deliver(self, request, context):
        for loss in request.losses:
            print(f"lost: {loss.findings} findings, {loss.records} records ({loss.cause})", file=sys.stderr)
        for finding in request.findings:
            if finding.uid not in self.seen:
                self.seen.add(finding.uid)
                print(MessageToJson(finding, preserving_proto_field_name=True, indent=None), flush=True)
        # Only what is printed is acknowledged. A consumer that keeps findings acknowledges when they are kept.
        last = request.findings[-1].sequence if request.findings else request.first_sequence
        return delivery_pb2.DeliverResponse(accepted_through=last)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    delivery_pb2_grpc.add_FindingsSinkServicer_to_server(Sink(), server)
    port = server.add_insecure_port(sys.argv[1])
    server.start()
    print(f"ready: port {port}", file=sys.stderr, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
