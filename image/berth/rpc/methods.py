"""The methods of the two gRPC services as endpoints of the pipeline: bytes of a message in, bytes of a message out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from berth import __version__
from berth.errors import InvalidInput, NotReady, RouteNotFound, ServerError
from berth.rpc.messages import message_classes
from berth.rpc.tensors_in_messages import decode_inputs_of, encode_outputs
from berth.tensors.binding import bind_tensors
from berth.web.access import check_ready, choose_model, is_visible
from berth.web.exchange import GRPC, Backend, Endpoint, Exchange, Reply
from berth.web.infer import wanted_outputs
from berth.web.v2 import describe_model

SERVICE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
# Where a request's bytes are in the exchange's environment.
MESSAGE = "berth.message"
_SERVING, _NOT_SERVING = 1, 2


def _parse(exchange: Exchange, name: str, package: str = "inference") -> Any:
    """The request's message. Raises InvalidInput."""
    from google.protobuf.message import DecodeError

    try:
        return message_classes(package)[name].FromString(exchange.environ[MESSAGE])
    except DecodeError as error:
        raise InvalidInput(f"the message is not a {name}: {error}") from error


def _reply(kind: str, /, *, package: str = "inference", **fields: Any) -> Reply:
    message = message_classes(package)[kind](**fields)
    return Reply(message.SerializeToString(), content_type=GRPC)


def _is_ready(exchange: Exchange, backend: Backend) -> bool:
    try:
        check_ready(exchange, backend)
    except NotReady:
        return False
    return True


def _server_live(exchange: Exchange, backend: Backend) -> Reply:
    return _reply("ServerLiveResponse", live=not backend.lifecycle.stuck_workers())


def _server_ready(exchange: Exchange, backend: Backend) -> Reply:
    return _reply("ServerReadyResponse", ready=_is_ready(exchange, backend))


def _server_metadata(exchange: Exchange, backend: Backend) -> Reply:
    return _reply("ServerMetadataResponse", name="berth", version=__version__)


def _model_ready(exchange: Exchange, backend: Backend) -> Reply:
    request = _parse(exchange, "ModelReadyRequest")
    try:
        choose_model(exchange, backend, request.name, request.version or None)
    except ServerError:  # it loads, or could not be loaded
        return _reply("ModelReadyResponse", ready=False)
    return _reply("ModelReadyResponse", ready=True)


def _model_metadata(exchange: Exchange, backend: Backend) -> Reply:
    request = _parse(exchange, "ModelMetadataRequest")
    model = choose_model(exchange, backend, request.name, request.version or None)
    described = describe_model(model, backend.catalog.versions(model.name))
    tensors = {
        kind: [{key: tensor[key] for key in ("name", "datatype", "shape")} for tensor in described[kind]]
        for kind in ("inputs", "outputs")
    }
    return _reply("ModelMetadataResponse", **{**described, **tensors})


def _model_infer(exchange: Exchange, backend: Backend) -> Reply:
    request = _parse(exchange, "ModelInferRequest")
    model = choose_model(exchange, backend, request.model_name, request.model_version or None)
    tensors = bind_tensors(decode_inputs_of(request), model.inputs)
    wanted = wanted_outputs([output.name for output in request.outputs], model)
    outputs = backend.predict(exchange, model, tensors, tuple(wanted.values()))
    model = exchange.model or model  # an experiment has chosen one of its arms
    response = message_classes("inference")["ModelInferResponse"](
        model_name=model.name, model_version=model.version, id=request.id
    )
    encode_outputs(response, model, wanted, outputs, bool(request.raw_input_contents))
    return Reply(response.SerializeToString(), content_type=GRPC)


def _health(exchange: Exchange, backend: Backend) -> Reply:
    """The whole server, or a model by its name, which a caller must be allowed to see."""
    service = _parse(exchange, "HealthCheckRequest", "grpc.health.v1").service
    serves = _is_ready(exchange, backend)
    if service not in ("", SERVICE):
        if not is_visible(exchange, backend, service):
            raise RouteNotFound(f"no service {service[:60]!r} here; the empty name is the whole server")
        try:
            backend.catalog.resolve(service)
        except ServerError:
            serves = False
    return _reply("HealthCheckResponse", package="grpc.health.v1", status=_SERVING if serves else _NOT_SERVING)


def _endpoint(service: str, name: str, answer: Callable[[Exchange, Backend], Reply], **more: Any) -> Endpoint:
    return Endpoint("post", f"/{service}/{name}", f"grpc_{name}", "v2", name, answer, **more)


_METHODS = (
    _endpoint(SERVICE, "ServerLive", _server_live, access="open", probe=True),
    _endpoint(SERVICE, "ServerReady", _server_ready, access="open", probe=True),
    _endpoint(SERVICE, "ServerMetadata", _server_metadata),
    _endpoint(SERVICE, "ModelReady", _model_ready),
    _endpoint(SERVICE, "ModelMetadata", _model_metadata),
    _endpoint(SERVICE, "ModelInfer", _model_infer, protocol="grpc"),
    _endpoint(HEALTH, "Check", _health, access="open", probe=True),
)
# By the path that gRPC gives a method.
METHODS: Mapping[str, Endpoint] = {endpoint.path: endpoint for endpoint in _METHODS}
