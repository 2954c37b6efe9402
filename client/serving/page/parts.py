"""What the page's routes are given."""

from dataclasses import dataclass
from pathlib import Path

from client.serving.http.context import Service
from client.serving.page.experiments import Experiments
from client.serving.page.outlook import BenefitJob
from client.serving.page.reach import ReachOfLists
from client.serving.page.sessions import Sessions


@dataclass(frozen=True)
class PageFolders:
    """Where the page reads what the service does not hold.

    Attributes:
        shop: The shop's folder.
        model: The models' folder.
    """

    shop: Path
    model: Path


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the page.

    Attributes:
        service: The running service.
        sessions: Who is let in.
        reach: What the lists reach.
        benefit: What a release brings, measured on demand.
        experiments: Whoever runs them.
        folders: Where the rest is read.
    """

    service: Service
    sessions: Sessions
    reach: ReachOfLists
    benefit: BenefitJob
    experiments: Experiments
    folders: PageFolders
