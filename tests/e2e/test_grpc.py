"""gRPC on the port that the ready file names."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from schemas.flightline.v1 import campaigns_pb2 as pb
from tests.running import RunningStack


async def test_the_port_of_the_ready_file_serves_campaigns_and_health(stack: RunningStack) -> None:
    async with grpc.aio.insecure_channel(stack.ready.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        list_page = channel.unary_unary("/flightline.v1.CampaignService/ListCampaigns")
        metadata = (("authorization", f"Bearer {stack.ready.admin_token}"),)
        page = pb.ListCampaignsResponse.FromString(
            await list_page(pb.ListCampaignsRequest(limit=1).SerializeToString(), metadata=metadata)
        )
        assert len(page.items) <= 1
