"""Start a run's app when SuperLink has one to do, without its token where everybody can read it.

    python -P -m server.operations.task_launcher ADDRESS AUTHORITY PARENT

Flower's own `flower-superexec` puts the token into the app's command line. Whoever has it acts as
the run. Here the app gets it through a file that has no name any more, handed over open.
"""

import subprocess
import sys
import tempfile

from flwr.supercore.constant import TASK_TYPE_TO_APPIO_API_ADDRESS_ARG, TASK_TYPE_TO_COMMAND
from flwr.supercore.superexec.executor import factory
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.run_superexec import run_superexec

from server.operations.folder import ServerFolder


def launcher_command(folder: ServerFolder, parent: int) -> list[str]:
    """Return what to start. -P: a folder named server in this one would hide the package."""
    address, authority = folder.settings().superlink, folder.authority.resolve()
    module = "server.operations.task_launcher"
    return [sys.executable, "-P", "-m", module, address, str(authority), str(parent)]


class NamelessTokens(SubprocessExecutor):
    """Flower's executor, but for how the token is handed over."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start one task's process.

        Raises:
            OSError: if the process cannot be started.
        """
        with tempfile.TemporaryFile() as token:
            token.write(spec.token.encode())
            token.flush()
            token.seek(0)
            number = token.fileno()
            subprocess.Popen(  # noqa: S603 - Flower's own command, no shell
                _command(spec, f"/dev/fd/{number}"), pass_fds=(number,)
            )
        return LaunchResult.accepted()


def _command(spec: ExecutionSpec, token: str) -> list[str]:
    address = TASK_TYPE_TO_APPIO_API_ADDRESS_ARG[spec.task_type]
    command = [
        TASK_TYPE_TO_COMMAND[spec.task_type],
        *(address, spec.runtime_api_address, "--token-file", token),
    ]
    if spec.root_certificates_path is not None:
        command += ["--root-certificates", spec.root_certificates_path]
    if spec.parent_pid is not None:
        command += ["--parent-pid", str(spec.parent_pid)]
    return command


def main() -> None:
    """Take SuperLink's tasks until the process that started this one has gone."""
    address, authority, parent = sys.argv[1:]
    # Flower looks its executor up by this name, and has no public place for another.
    vars(factory)["SubprocessExecutor"] = NamelessTokens
    run_superexec(
        runtime_api_address=address,
        insecure=False,
        root_certificates_path=authority,
        parent_pid=int(parent),
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main()
