"""The AsyncAPI 3 document: every topic as a channel, every event as a message, generated from registry and models."""

from __future__ import annotations

from typing import Any

from schemas.export import MODELS, file_name, version
from topics.registry import TOPICS, Topic


def document(app_version: str) -> dict[str, Any]:
    """As JSON-ready data. Payloads are references into `schemas/json/`, relative to the document's own folder."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mailriver",
            "version": app_version,
            "description": "Outgoing email as an event log. CloudEvents 1.0 in Kafka's binary mode; values are JSON. "
            "Only mail.sends and mail.sends.urgent are written by upstream apps.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_id(topic): _channel(topic) for topic in TOPICS if topic.types},
        "operations": {"on_" + _id(topic): _operation(topic) for topic in TOPICS if topic.types},
        "components": {"messages": {_message_id(kind): _message(kind) for kind in sorted(MODELS)}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. Written by {', '.join(topic.writers)}; read by {', '.join(topic.readers)}.",
        "messages": {_message_id(kind): {"$ref": f"#/components/messages/{_message_id(kind)}"} for kind in topic.types},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.production,
                "replicas": 3,
                "topicConfiguration": {"cleanup.policy": [str(topic.cleanup)], "retention.ms": topic.keep_ms},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(topic: Topic) -> dict[str, Any]:
    upstream = "upstream" in topic.writers
    return {
        # Seen from mailriver: it receives what upstream apps write, and sends all else.
        "action": "receive" if upstream else "send",
        "channel": {"$ref": f"#/channels/{_id(topic)}"},
    }


def _message(kind: str) -> dict[str, Any]:
    summary = (MODELS[kind].__doc__ or "").strip().splitlines()
    return {
        "name": kind,
        "title": kind,
        **({"summary": summary[0]} if summary and MODELS[kind].__doc__ else {}),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                "ce_type": {"type": "string", "const": kind},
                "ce_id": {"type": "string"},
                "ce_source": {"type": "string"},
                "ce_time": {"type": "string", "format": "date-time"},
                "ce_subject": {"type": "string"},
            },
        },
        "payload": {"$ref": f"./json/{file_name(kind)}"},
        "x-schema-version": version(kind),
    }


def _id(topic: Topic) -> str:
    return topic.name.replace(".", "_")


def _message_id(kind: str) -> str:
    return kind.replace(".", "_")
