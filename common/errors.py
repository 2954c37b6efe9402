"""The exception tree: every error fedtail raises on purpose.

    FedtailError
    ├── InputError           a file, row, column or argument is not what was expected
    │   └── SettingsError    a run or node setting is missing, of the wrong kind or out of bounds
    ├── PrivacyError         going on would break a privacy promise
    │   ├── BudgetError      the ledger's budget does not cover the plan
    │   ├── LedgerError      the ledger cannot be read, written or trusted
    │   ├── PolicyError      the run asks for less privacy than the merchant's policy allows
    │   └── SecureSumError   what the server asks of a party would undo the secure sum
    ├── ReleaseError         a release is incomplete, altered or signed by somebody else
    ├── EnrolmentError       a key, certificate, invite or request is not to be trusted
    ├── StorageError         a database cannot be read or written just now
    └── FederationError      a round cannot go on
        ├── QuorumError      too few merchants answered in time
        ├── MaskedReplyError a party's message to the secure sum is not what it must be
        └── JournalError     the server's journal cannot be read, written or trusted

Each class has a `code`. What leaves a node on failure is `public()`, that code and a field name:
never the message, which may quote a row of a merchant's table.

A command that ends with one has the status 2, or 1 where the same command may go well next time:
a service manager starts it again for 1 and not for 2.
"""

from typing import ClassVar


class FedtailError(Exception):
    """Base of all errors raised on purpose; `field` names what was wrong, if one thing was."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 2

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field

    def public(self) -> str:
        """Return what may leave the node: the code and the field's name."""
        return f"{self.code}:{self.field}" if self.field else self.code


class InputError(FedtailError):
    """A file, row, column or argument is not what was expected."""

    code = "input"


class SettingsError(InputError):
    """A setting is missing, of the wrong kind or out of bounds."""

    code = "settings"


class PrivacyError(FedtailError):
    """Going on would break a privacy promise."""

    code = "privacy"


class BudgetError(PrivacyError):
    """The budget left does not cover the plan."""

    code = "budget"


class LedgerError(PrivacyError):
    """The ledger cannot be read, written or trusted."""

    code = "ledger"


class PolicyError(PrivacyError):
    """The run asks for less privacy than the merchant's policy allows."""

    code = "policy"


class SecureSumError(PrivacyError):
    """What the server asks of a party breaks the protocol that hides its summand."""

    code = "secure_sum"


class ReleaseError(FedtailError):
    """A release is incomplete, altered or signed by somebody else."""

    code = "release"


class EnrolmentError(FedtailError):
    """A key, certificate, invite or request is not to be trusted."""

    code = "enrolment"


class StorageError(FedtailError):
    """A database cannot be read or written just now, such as on a full disk."""

    code = "storage"
    status = 1


class FederationError(FedtailError):
    """A round cannot go on."""

    code = "federation"
    status = 1


class QuorumError(FederationError):
    """Too few merchants answered in time."""

    code = "quorum"


class MaskedReplyError(FederationError):
    """A party's message to the secure sum is not what it must be; `field` says in what."""

    code = "masked_reply"


class JournalError(FederationError):
    """The server's journal cannot be read, written or trusted."""

    code = "journal"
