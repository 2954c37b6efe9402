"""Alerts: what of the shop's lists has drifted."""

from dataclasses import asdict

from fastapi import APIRouter, Depends

from client.serving.experiments.messages import AlertAnswer, AlertsAnswer
from client.serving.http.context import Here, needs

router = APIRouter(prefix="/v1/alerts", tags=["state"], dependencies=[Depends(needs("admin"))])


@router.get("")
def list_alerts(here: Here) -> AlertsAnswer:
    """Return what drifted against the shop's own days before, the latest first.

    All figures together raise a false alarm once a year on average, or less often.
    """
    found = here.alerts.all(here.now())
    return AlertsAnswer(alerts=[AlertAnswer.model_validate(asdict(one)) for one in found])
