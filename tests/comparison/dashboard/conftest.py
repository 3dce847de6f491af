"""A stand-in for wandb's server, below the whole of its client."""

import base64
import json
import re

import pytest

wandb = pytest.importorskip("wandb")
pytest.importorskip("wandb_workspaces")

from wandb.apis.public.service_api import ServiceApi  # noqa: E402
from wandb.proto import wandb_api_pb2 as messages  # noqa: E402
from wandb.sdk.lib.service.service_connection import WandbApiFailedError  # noqa: E402


class Server(ServiceApi):
    """Answers requests from what it keeps, and remembers their names.

    Attributes:
        views: Reports, by id.
        charts: Specifications, by name.
        requests: Names of the requests, in order.
        refuse: Status that charts are refused with; None: they are kept.
        runs: Tags, kind, state and group of the runs of each project.
    """

    def __init__(self):
        super().__init__(wandb.Settings(base_url="https://api.test"))
        self.projects = {"tireid"}
        self.views = {}
        self.charts = {}
        self.requests = []
        self.refuse = None
        run = {"jobType": "train", "state": "finished"}
        run |= {"summary_metrics.gallery_test": {}, "config.model/gradient_share_steps": 5}
        tags = ("synthetic", "cuhk_pedes", "icfg_pedes", "rstpreid")
        self.runs = [run | {"tags": tag, "group": "like_for_like"} for tag in tags]

    def send_api_request(self, request, timeout=None):
        if request.HasField("create_custom_chart_request"):
            return self._chart(request.create_custom_chart_request)
        (name,) = re.findall(r"(?:query|mutation)\s+(\w+)", request.graphql_request.query)
        self.requests.append(name)
        answer = getattr(self, name)(json.loads(request.graphql_request.variables_json))
        response = messages.ApiResponse()
        response.graphql_response.data_json = json.dumps(answer)
        return response

    def _chart(self, request):
        self.requests.append("createCustomChart")
        status = 409 if request.name in self.charts else self.refuse
        if status is not None:
            error = messages.ApiErrorResponse(message=f"HTTP {status}", http_status=status)
            raise WandbApiFailedError("refused here", error)
        self.charts[request.name] = json.loads(request.spec)
        response = messages.ApiResponse()
        response.create_custom_chart_response.chart_id = f"{request.entity}/{request.name}"
        return response

    def GetDefaultEntity(self, variables):  # noqa: N802
        return {"viewer": {"id": "u", "entity": "me"}}

    def GetProjects(self, variables):  # noqa: N802
        nodes = [
            {
                "__typename": "Project",
                "id": name,
                "name": name,
                "entityName": "me",
                "createdAt": "2026-01-01T00:00:00Z",
                "isBenchmark": False,
                "user": None,
            }
            for name in self.projects
        ]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": node} for node in nodes]}}

    def Runs(self, variables):  # noqa: N802
        wanted = json.loads(variables["filters"])
        count = sum(all(matches(run.get(n), v) for n, v in wanted.items()) for run in self.runs)
        page = {"endCursor": None, "hasNextPage": False}
        runs = {"edges": [], "pageInfo": page}
        return {"project": {"internalId": "7", "runCount": count, "readOnly": False, "runs": runs}}

    def ProjectViews(self, variables):  # noqa: N802
        if variables["project"] not in self.projects:
            return {"project": None}
        edges = [{"node": view, "cursor": id} for id, view in self.views.items()]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"hasNextPage": False}}}}

    def ProjectInternalId(self, variables):  # noqa: N802
        known = variables["projectName"] in self.projects
        return {"project": {"id": "x", "internalId": "7"} if known else None}

    def SpecificReport(self, variables):  # noqa: N802
        return {"view": self.views.get(variables["reportId"])}

    def upsertView(self, variables):  # noqa: N802
        id = variables["id"] or base64.b64encode(b"View:%d" % len(self.views)).decode()
        project = {"id": "x", "name": variables["projectName"], "entityName": "me"}
        old = self.views.get(id, {"createdAt": "2026-01-01T00:00:00Z"})
        self.views[id] = old | {
            "id": id,
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "type": variables["type"],
            "spec": variables["spec"],
            "project": project,
            "updatedAt": "2026-01-02T00:00:00Z",
        }
        return {"upsertView": {"view": self.views[id], "inserted": variables["id"] is None}}


def matches(value, wanted):
    """Whether a run's value is what a filter wants, as MongoDB says it."""
    if not isinstance(wanted, dict):
        return value == wanted
    return value is not None and ("$gt" not in wanted or value > wanted["$gt"])


@pytest.fixture
def server(monkeypatch):
    """A server with an empty project `me/tireid`, and a key that it takes."""
    server, kind = Server(), wandb.Api

    def api():
        client = object.__new__(kind)  # without its greeting over the network
        client.settings = {"entity": None, "project": None, "base_url": "https://api.test"}
        client._service_api = server
        client._default_entity = None
        client._projects, client._reports, client._runs = {}, {}, {}
        client.api_key = None
        return client

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "Api", api)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    return server


@pytest.fixture
def unreachable(monkeypatch):
    """Whatever asks the server, or for a key, fails."""

    def asked(*_, **__):
        raise AssertionError("expected no request")

    monkeypatch.setattr(wandb, "Api", asked)
    monkeypatch.setattr(wandb, "login", asked)
