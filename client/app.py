"""The merchant's Flower app: messages in, protected numbers out.

Nothing heavy is imported here, and no data is touched: each handler reads a checked request, hands
it to the node's work and encodes the answer. What the run needs later (basis, settings, plan) is
kept in Flower's context, because a deployed node starts a new process for each message.
"""

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.node.session import OpenNode, open_node
from client.node.settings import check_dp_model, check_refresh
from common.errors import FederationError
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.contributions import Purpose
from common.privacy.mechanism.shares import ProtectedShare
from common.privacy.secagg.messages import MaskRequest, UnmaskRequest, ViewRequest
from common.wire import canaries, messages, refusal, secure_sum
from common.wire.contributions import with_contribution
from common.wire.heads import JournalNote, read_note, with_head
from common.wire.season import encode_season

if TYPE_CHECKING:
    from client.node.secure_party import SecureParty

app = ClientApp()
logger = logging.getLogger(__name__)

Handler = Callable[[Message, Context], Message]
_STATE = "fedtail"
_HANDLED = "handled"
_WRITTEN = "written"


def guarded(handler: Handler) -> Handler:
    """Turn any exception of `handler` into a reply that carries a code and a field name.

    Flower sends the text of an exception that it catches itself, and that text may quote a row.
    The local log gets the class and the code, no text either: Flower may upload logs.
    """

    @functools.wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        try:
            return handler(message, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text must not leave
            reply = messages.error_reply(error)
            kind = type(error).__name__
            logger.error("%s refused: %s (%s)", handler.__name__, kind, reply.reason)  # noqa: TRY400 - a traceback quotes data
            return Message(reply, reply_to=message)

    return answer


@app.query("prepare")
@guarded
def prepare(message: Message, context: Context) -> Message:
    """Keep the run's basis, settings and plan; encode the catalogue; tell the public facts."""
    request = messages.decode_prepare(message.content)
    settings, node = open_node(context)
    plan = PrivacyPlan.from_json(request.plan)
    check_dp_model(plan, settings)
    check_refresh(plan, request.settings)
    if plan.delta_warning:  # of public numbers alone
        logger.warning("The run's plan: %s", plan.delta_warning)
    note = read_note(message.content)
    prepared = node.prepare(request.basis, request.settings)
    commitment = node.work.commitment(plan, context.run_id)
    context.state[_STATE] = ConfigRecord(
        {
            "basis": request.basis,
            "settings": json.dumps(dict(request.settings)),
            "plan": request.plan,
        }
    )
    prepared = dataclasses.replace(prepared, canaries_commitment=commitment)
    return Message(_headed(messages.encode_prepared(prepared), node, note), reply_to=message)


@app.query("advertise")
@guarded
def advertise(message: Message, context: Context) -> Message:
    """Make the node's party for the run's secure sum, and tell its keys."""
    node, plan = _asked_node(message, context)
    opening = secure_sum.read_asked(secure_sum.Opening, message.content, secure_sum.MOST_ASKED)
    with _party(node, plan, context) as party:
        told = party.advertise(opening.histogram)
    return _secure_reply(message, plan, told)


@app.query("share")
@guarded
def share(message: Message, context: Context) -> Message:
    """Check who takes part in the secure sum, and deal shares of this party's secrets."""
    node, plan = _asked_node(message, context)
    with _party(node, plan, context) as party:
        company = secure_sum.read_asked(secure_sum.Company, message.content, party.most_bytes)
        told = party.share(company)
    return _secure_reply(message, plan, told)


@app.query("accept")
@guarded
def accept(message: Message, context: Context) -> Message:
    """Keep the shares that the neighbours sealed to this party, and say whose do not open."""
    node, plan = _asked_node(message, context)
    with _party(node, plan, context) as party:
        dealt = secure_sum.read_asked(secure_sum.Dealt, message.content, party.most_bytes)
        told = party.accept(dealt)
    return _secure_reply(message, plan, told)


@app.query("view")
@guarded
def view(message: Message, context: Context) -> Message:
    """Sign who is there and who is missing in a sum."""
    node, plan = _asked_node(message, context)
    with _party(node, plan, context) as party:
        asked = secure_sum.read_asked(ViewRequest, message.content, party.most_bytes)
        told = party.view(asked)
    return _secure_reply(message, plan, told)


@app.query("unmask")
@guarded
def unmask(message: Message, context: Context) -> Message:
    """Give shares of the neighbours' secrets for a sum."""
    node, plan = _asked_node(message, context)
    with _party(node, plan, context) as party:
        asked = secure_sum.read_asked(UnmaskRequest, message.content, party.most_bytes)
        told = party.unmask(asked)
    return _secure_reply(message, plan, told)


@app.query("popularity")
@guarded
def popularity(message: Message, context: Context) -> Message:
    """Charge and release the noised histogram of purchases by item."""
    node, prepared, plan = _prepared_node(context)
    messages.decode_plan_request(message.content, plan.digest)
    _check_fresh(message, context)
    if plan.dp_model == "distributed":
        index = secure_sum.read_index(message.content)
        return _masked_reply(
            message,
            context,
            ("popularity", 0),
            secure_sum.index_digest(index),
            lambda: node.work.popularity_share(plan, context.run_id, index),
        )
    note = read_note(message.content)
    node.work.accept(note)
    counts = node.work.popularity(plan, context.run_id, 0)
    if counts.shape != (prepared.items,):
        raise FederationError("The histogram is not one number an item.", field="popularity")
    reply = messages.encode_popularity(counts, plan.digest)
    purpose = Purpose("popularity", str(context.run_id), 0, plan.digest, node.key)
    if _signs(note, plan):
        with_contribution(reply, node.work.contribution(counts, purpose))
    return Message(_headed(reply, node, note), reply_to=message)


@app.query("season")
@guarded
def season(message: Message, context: Context) -> Message:
    """Charge and release the noised season vector."""
    node, plan = _asked_node(message, context)
    if plan.dp_model == "distributed":
        made = functools.partial(node.work.season_share, plan, context.run_id)
        return _masked_reply(message, context, ("season", 0), "", made)
    note = read_note(message.content)
    node.work.accept(note)
    vector = node.work.season(plan, context.run_id)
    reply = encode_season(vector, plan.digest)
    purpose = Purpose("season", str(context.run_id), 0, plan.digest, node.key)
    if _signs(note, plan):
        with_contribution(reply, node.work.contribution(vector, purpose))
    return Message(_headed(reply, node, note), reply_to=message)


@app.query("receipt")
@guarded
def receipt(message: Message, context: Context) -> Message:
    """Keep the receipt for the ledger's last head; say no if the ledger lacks it."""
    _, node = open_node(context)
    node.work.accept(read_note(message.content))
    return Message(RecordDict(), reply_to=message)


@app.query("refused")
@guarded
def refused(message: Message, context: Context) -> Message:
    """Put on the node's log why the server does not let it take part."""
    del context
    logger.error("The server refused this node: %s", refusal.decode_refusal(message.content))
    return Message(RecordDict(), reply_to=message)


@app.train()
@guarded
def train(message: Message, context: Context) -> Message:
    """Charge a round, take the private steps and return the protected update."""
    node, prepared, plan = _prepared_node(context)
    request = messages.decode_train(message.content, prepared.items, plan.digest)
    _check_fresh(message, context)
    told = (request.adapter, request.popularity, plan, context.run_id, request.round_number)
    if plan.dp_model == "distributed":
        made = functools.partial(node.work.train_share, *told)
        digest = request.adapter.digest
        return _masked_reply(message, context, ("train", request.round_number), digest, made)
    note = read_note(message.content)
    node.work.accept(note)
    update = node.work.train(*told)
    reply = messages.encode_update(update, node.work.public_metrics())
    # What leaves is what the server will check; a wrong round or size is found here first.
    messages.decode_update(reply, request.adapter.size, request.round_number, plan.digest)
    number, made_at = request.round_number, request.adapter.digest
    purpose = Purpose("train", str(context.run_id), number, plan.digest, node.key, made_at)
    if _signs(note, plan):
        with_contribution(reply, node.work.contribution(update.vector, purpose))
    return Message(_headed(reply, node, note), reply_to=message)


def _asked_node(message: Message, context: Context) -> tuple[OpenNode, PrivacyPlan]:
    """Return the prepared node, once the request is a fresh one under its plan."""
    node, _, plan = _prepared_node(context)
    messages.decode_plan_request(message.content, plan.digest)
    _check_fresh(message, context)
    return node, plan


@contextmanager
def _party(node: OpenNode, plan: PrivacyPlan, context: Context) -> "Iterator[SecureParty]":
    """Give the node's party, and keep in the context how often it was written: see there."""
    party = node.work.party(plan, context.run_id)
    held = context.state.get(_WRITTEN)
    seen = held["party"] if isinstance(held, ConfigRecord) else 0
    party.seen = seen if isinstance(seen, int) else 0
    try:
        yield party
    finally:
        context.state[_WRITTEN] = ConfigRecord({"party": party.seen})


def _masked_reply(
    message: Message,
    context: Context,
    which: tuple[EventKind, int],
    asked: str,
    made: Callable[[], ProtectedShare],
) -> Message:
    """Charge and compute a share, and return it under its masks with the ledger's head.

    What is asked is checked first, so that a request that is none costs nothing.

    Args:
        message: The request.
        context: The node's.
        which: The sum's kind and round.
        asked: See `SecureParty.check`.
        made: Charges, and returns the share.
    """
    node, _, plan = _prepared_node(context)
    request = secure_sum.read_asked(MaskRequest, message.content, secure_sum.MOST_ASKED)
    note = read_note(message.content)
    with _party(node, plan, context) as party:
        party.check(request, *which, asked)
        node.work.accept(note)
        masked = party.mask(request, made())
    content = messages.encode_plan_request(plan.digest)
    return Message(_headed(secure_sum.with_secure(content, masked), node, note), reply_to=message)


def _secure_reply(message: Message, plan: PrivacyPlan, told: object) -> Message:
    content = messages.encode_plan_request(plan.digest)
    return Message(secure_sum.with_secure(content, told), reply_to=message)


def _signs(note: JournalNote | None, plan: PrivacyPlan) -> bool:
    """Return whether the node signs what it sends: a vector that may be shown, for a journal.

    With another DP model a vector does not carry all of its noise, and not even a digest of it may
    be shown.
    """
    return note is not None and plan.dp_model == "local"


def _check_fresh(message: Message, context: Context) -> None:
    """Refuse a message that was handled before or is too old to answer, before it costs anything.

    What a server asks for again, after it was stopped, is another message.

    Raises:
        FederationError: `message` if it was handled before; `clock` if its time is over, so that
            Flower would drop the answer: it came late, or this node's clock is ahead.
    """
    about = message.metadata
    if about.created_at + about.ttl <= time.time():
        raise FederationError(
            "The message's time is over by this node's clock; check the clock.", field="clock"
        )
    held = context.state.get(_HANDLED)
    handled = held["messages"] if isinstance(held, ConfigRecord) else []
    known = [str(one) for one in handled] if isinstance(handled, list) else []
    if about.message_id in known:
        raise FederationError("This message was handled before.", field="message")
    if about.message_id:
        context.state[_HANDLED] = ConfigRecord({"messages": [*known, about.message_id]})


def _headed(content: RecordDict, node: OpenNode, note: JournalNote | None) -> RecordDict:
    """Add the ledger's head to a reply, if the request named a journal."""
    return content if note is None else with_head(content, node.work.head(note.journal))


@app.query("audit")
@guarded
def audit(message: Message, context: Context) -> Message:
    """Open the run's canaries, after its last round."""
    node, _, plan = _prepared_node(context)
    canaries.decode_audit_request(message.content, plan.digest)
    record = node.work.revealed_canaries(plan, context.run_id)
    return Message(canaries.encode_audit(record, plan.digest), reply_to=message)


def _prepared_node(context: Context) -> tuple[OpenNode, messages.Prepared, PrivacyPlan]:
    """Return the node as the run's preparation left it, prepared again in a new process.

    Raises:
        FederationError: if this node has not been prepared in this run, or lost its state.
    """
    held = context.state.get(_STATE)
    if not isinstance(held, ConfigRecord):
        raise FederationError("The node is not prepared for this run.", field="prepare")
    basis, settings_text, plan_text = held["basis"], held["settings"], held["plan"]
    if not (
        isinstance(basis, bytes) and isinstance(settings_text, str) and isinstance(plan_text, str)
    ):
        raise FederationError("The node's state is not its own.", field="prepare")
    plan = PrivacyPlan.from_json(plan_text)
    settings, node = open_node(context)
    check_dp_model(plan, settings)
    return node, node.prepare(basis, json.loads(settings_text)), plan
