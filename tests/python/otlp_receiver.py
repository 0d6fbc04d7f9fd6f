"""An OTLP logs receiver: prints `uid rule severity` of each record. `otlp_receiver.py PORT-FILE`."""
import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request, context):
        for resource in request.resource_logs:
            node = {one.key: one.value.string_value for one in resource.resource.attributes}["k8s.node.name"]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    of = {one.key: one.value for one in record.attributes}
                    if record.event_name == "monitor.finding":
                        print(
                            of["log.record.uid"].string_value,
                            of["process.pid"].int_value,
                            record.severity_text,
                            node,
                            of["security_rule.name"].string_value,
                            flush=True,
                        )
        return logs_service_pb2.ExportLogsServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"ready: port {port}", file=sys.stderr, flush=True)
server.wait_for_termination()
