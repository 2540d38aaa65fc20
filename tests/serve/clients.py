"""The openai package, LangChain and LiteLLM against glimpse serve: multimodal chat, streaming and not, tools, schemas.

Usage: clients.py GLIMPSE MODELS_FOLDER openai|langchain|litellm. Exit status 77 with the missing package's name: skipped.
"""

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys

ANSWER = "An orange ring, a green square, a blue heart and a green circle on a yellow background."
QUESTION = "Describe this picture."


def start(glimpse, models):
    server = subprocess.Popen(
        [glimpse, "serve", "-m", f"{models}/demo-Q8_0.gguf", "--mmproj", f"{models}/mmproj-demo-f16.gguf", "--port", "0",
         "-t", "1"], stderr=subprocess.PIPE, text=True)
    port = None
    for line in server.stderr:
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
        if found:
            port = found.group(1)
        if line.startswith("ready"):
            return server, f"http://127.0.0.1:{port}/v1"
    raise SystemExit("the server did not start")


def messages(url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                         {"type": "text", "text": QUESTION}]}]


def with_openai(base, url):
    import openai

    client = openai.OpenAI(base_url=base, api_key="none", max_retries=0)
    whole = client.chat.completions.create(model="demo-Q8_0", messages=messages(url), logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.content == ANSWER, whole
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    said = "".join(token.token for token in whole.choices[0].logprobs.content)
    assert said == ANSWER, said
    pieces, usage = [], None
    for chunk in client.chat.completions.create(model="demo-Q8_0", messages=messages(url), stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == ANSWER and len(pieces) > 5, pieces
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert client.models.list().data[0].id == "demo-Q8_0"
    raw = client.completions.create(model="demo-Q8_0", prompt="<|im_start|>user\nHello<|im_end|>\n", max_tokens=3)
    assert raw.object == "text_completion"
    try:
        client.chat.completions.create(model="demo-Q8_0", messages=messages("https://example.org/cat.png"))
        raise AssertionError("a picture was fetched")
    except openai.BadRequestError as error:
        assert "messages[0].content[0].image_url.url" in str(error), error
    try:
        client.models.retrieve("gpt-4")
        raise AssertionError("there is a gpt-4")
    except openai.NotFoundError:
        pass
    schema = {"type": "object", "properties": {"shape": {"enum": ["ring", "heart"]}, "count": {"type": "integer"}},
              "required": ["shape", "count"], "additionalProperties": False}
    answer = client.chat.completions.create(
        model="demo-Q8_0", messages=messages(url), max_tokens=64,
        response_format={"type": "json_schema", "json_schema": {"name": "shapes", "schema": schema, "strict": True}})
    found = json.loads(answer.choices[0].message.content)
    assert found["shape"] in ("ring", "heart") and isinstance(found["count"], int), found
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    answer = client.chat.completions.create(
        model="demo-Q8_0", messages=messages(url), max_tokens=64, tools=[tool],
        tool_choice={"type": "function", "function": {"name": "look"}})
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "look" and json.loads(call.function.arguments)["shape"] in ("ring", "heart")


def with_langchain(base, url):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=base, api_key="none", model="demo-Q8_0", max_retries=0)
    assert model.invoke(messages(url)).content == ANSWER
    pieces = [chunk.content for chunk in model.stream(messages(url))]
    assert "".join(pieces) == ANSWER and len(pieces) > 5, pieces


def with_litellm(base, url):
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices
    import litellm

    litellm.telemetry = False
    asked = dict(model="openai/demo-Q8_0", api_base=base, api_key="none", messages=messages(url), num_retries=0)
    assert litellm.completion(**asked).choices[0].message.content == ANSWER
    pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **asked)]
    assert "".join(pieces) == ANSWER and len(pieces) > 5, pieces


CLIENTS = {"openai": ("openai", with_openai), "langchain": ("langchain_openai", with_langchain),
           "litellm": ("litellm", with_litellm)}

def main():
    glimpse, models, client = sys.argv[1:4]
    package, check = CLIENTS[client]
    if importlib.util.find_spec(package) is None:
        print(f"skipped: the Python package {package} is not installed")
        return 77
    with open(f"{models}/sample.png", "rb") as picture:
        url = "data:image/png;base64," + base64.b64encode(picture.read()).decode()
    server, base = start(glimpse, models)
    try:
        check(base, url)
    finally:
        server.terminate()
        assert server.wait() == 0
    print(f"{client}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
