#!/usr/bin/env bash
# curl.sh GLIMPSE MODELS_FOLDER: the README's requests, as people type them.
set -euo pipefail
log=$(mktemp)
"$1" serve -m "$2/demo-Q8_0.gguf" --mmproj "$2/mmproj-demo-f16.gguf" --port 0 -t 1 --media-path "$2" 2>"$log" &
trap 'kill $!; wait $! || true; rm -f "$log"' EXIT
for _ in $(seq 200); do grep -q ready "$log" && break; sleep 0.05; done
url=$(grep -o 'http://[^ ]*' "$log" | head -1)
ask() {
  curl -sS "$url/v1/chat/completions" -H 'Content-Type: application/json' -d "{\"stream\": $1, \"messages\": [{\"role\": \"user\",
    \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"file:///sample.png\"}},
                {\"type\": \"text\", \"text\": \"Describe this picture.\"}]}]}"
}
ask false
echo
ask true | tail -2
