"""The deployment policy in plain words, for the person who is to approve it."""

from __future__ import annotations

from typing import Final

from device.messages.policy import DeploymentPolicy, Mode
from device.messages.schedule import SESSION_S, Schedule, ScheduleKind
from provisioning.policy_form import show_day
from provisioning.schedule_form import show_schedule

_MODES: Final = {
    Mode.OFF: "Nothing is captured, and nothing leaves the gateway.",
    Mode.CLASS_AGGREGATE: "The boxes infer emotions. The gateway hands out counts over the class, and no desk's label.",
    Mode.LABELS: "The boxes infer emotions. The gateway hands out each desk's label.",
    Mode.PRESENCE: "No emotion is inferred. Each desk tells whether a face is seen, and how loud it is.",
}


def in_words(policy: DeploymentPolicy) -> str:
    """Sentences that say all that the policy says, a line each."""
    mode = policy.mode
    lines = [
        f"Room {policy.room}: purpose {policy.purpose}, setting {policy.setting}, country {policy.jurisdiction}.",
        _MODES[mode],
    ]
    if mode is not Mode.OFF:
        lines.append(f"Microphone and camera are open {_when(policy.capture)}.")
    if mode is Mode.CLASS_AGGREGATE:
        lines.append(f"Fewer than {policy.min_group} desks are not counted.")
    lines += [
        f"What the boxes sign is kept for {policy.retention_days} days.",
        f"It counts as witnessed after {policy.witness_count} later signatures.",
        f"Updates may be installed {_when(policy.updates)}.",
        f"It holds from {show_day(policy.not_before_ms)} to before {show_day(policy.not_after_ms)} (UTC).",
        f"Approved by: {policy.approved_by}",
    ]
    return "\n".join(lines)


def _when(schedule: Schedule) -> str:
    if schedule.kind is ScheduleKind.ALWAYS:
        return "at all times"
    shortest, longest = (seconds // 60 for seconds in SESSION_S)
    hours = show_schedule(schedule).partition(";")[0]
    if schedule.kind is ScheduleKind.HOURS:
        return f"only in the hours {hours}"
    return (
        f"only for {schedule.sessions_per_day} sessions of {shortest} to {longest} minutes a day, which each box draws"
        f" at random in the hours {hours}"
    )
