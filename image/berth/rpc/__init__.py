"""The Open Inference Protocol over gRPC: messages, methods as endpoints of the pipeline, and a server per worker."""
