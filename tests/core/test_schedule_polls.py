"""The reply of `poll_schedules.lua`."""

from taskiq_redis._core.schedule_polls import PollReply, parse_poll


def test_reply_of_a_poll_is_parsed() -> None:
    reply = [
        b"7",
        1,
        [b"cron", b"0", b"gone", b""],
        [b"once", b"1.7e12"],
        [b"schedule:cron"],
        [b"2030-01-02T03:04"],
        0,
        b"",
    ]
    assert parse_poll(reply) == PollReply(
        version="7",
        complete=True,
        read={"cron": "0", "gone": ""},
        due={"once": 1_700_000_000_000},
        no_lists=["schedule:cron"],
        over=["2030-01-02T03:04"],
        crowded=False,
        refusal="",
    )
