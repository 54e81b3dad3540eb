"""The tables of the provider's journal."""

from typing import Final

APPLICATION_ID: Final = 0x53524A31
"""Marks the file as ours ("SRJ1" in ASCII; SQLite's application_id)."""

SCHEMA_VERSION: Final = 1

SCHEMA: Final = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), stream TEXT NOT NULL,
                       seq INTEGER NOT NULL);
CREATE TABLE inbox (place INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT NOT NULL UNIQUE,
                    state TEXT NOT NULL CHECK (state IN ('accepted', 'executing', 'finished')),
                    expires_at TEXT NOT NULL, assignment TEXT NOT NULL);
CREATE INDEX inbox_unfinished ON inbox (place) WHERE state != 'finished';
CREATE TABLE outbox (place INTEGER PRIMARY KEY AUTOINCREMENT, report_id TEXT NOT NULL UNIQUE,
                     subject TEXT, body TEXT NOT NULL, set_aside TEXT);
CREATE INDEX outbox_subject ON outbox (subject);
CREATE TABLE fence (place INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL UNIQUE,
                    fence INTEGER NOT NULL);
CREATE TABLE epoch (item TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
"""
