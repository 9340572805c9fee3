"""The webhook receiver, for tests."""

from callreel.demo.receiver import Answer, Webhook, WebhookReceiver

__all__ = ["Answer", "Webhook", "WebhookReceiver"]
