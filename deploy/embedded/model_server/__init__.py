"""A local model server: Ollama's HTTP protocol over models that come in wheels.

One process, two models: a small instruct model run by llama.cpp and a sentence-embedding model
run by onnxruntime. The rest of the platform knows only the protocol, so a real Ollama replaces
this server by a change of base URL. Run it with `python -m deploy.embedded.model_server --port
N`.

It serves loopback, without authentication, and fetches nothing: both models are files of
installed distributions.
"""
