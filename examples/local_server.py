"""Serve a local language model the way OpenAI serves theirs, with nothing but transformers.

For trying `biod2c gen-qa` and the judge without an account. It answers one request at a time, and
reads the text of a message only: an image in it is ignored, as by any text-only model.

    python examples/local_server.py MODEL [--gguf FILE] [--port 8000]

MODEL is a folder or a hub name of any causal language model with a chat template.
"""

from __future__ import annotations

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import biod2c_core  # noqa: F401  (lets transformers work beside a CPU-only torch)

# isort: split
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed


def text_of(content: str | list[dict[str, Any]]) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


class LocalModel:
    """A causal language model that answers chats."""

    def __init__(self, model: str, gguf: str | None) -> None:
        source = {"gguf_file": gguf} if gguf else {}
        self.tokenizer = AutoTokenizer.from_pretrained(model, **source)
        self.model = AutoModelForCausalLM.from_pretrained(model, **source).eval()
        self.name = gguf or model
        self.lock = threading.Lock()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The body of a chat completion."""
        chat = [{"role": m["role"], "content": text_of(m["content"])} for m in request["messages"]]
        prompt = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = prompt["input_ids"].shape[1]
        with self.lock, torch.inference_mode():
            set_seed(0)
            tokens = self.model.generate(
                **prompt,
                max_new_tokens=request.get("max_tokens") or 512,
                do_sample=bool(request.get("temperature")),
                repetition_penalty=1.1,
                pad_token_id=self.tokenizer.eos_token_id,
            )[0, length:]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        finished = tokens[-1].item() == self.tokenizer.eos_token_id
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if finished else "length",
        }
        usage = {"prompt_tokens": length, "completion_tokens": len(tokens)}
        body = {"object": "chat.completion", "model": self.name, "choices": [choice]}
        return body | {"usage": usage}


def handler(model: LocalModel) -> type[BaseHTTPRequestHandler]:
    """A request handler that asks ``model``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            try:
                status, value = 200, model.answer(json.loads(self.rfile.read(length)))
            except (KeyError, TypeError, ValueError) as error:
                status, value = 400, {"error": {"message": str(error)}}
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    """Load the model and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve a local model like OpenAI's API.")
    parser.add_argument("model", help="folder or hub name")
    parser.add_argument("--gguf", help="name of a GGUF file in that folder")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    model = LocalModel(options.model, options.gguf)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(model))
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
