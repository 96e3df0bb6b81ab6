"""The commands of docs/operations/backup.md, run as they stand: `make extras`."""

import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import boto3
import pytest

from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import Settings, StoreSettings
from service.storage.store import open_store
from tests.generations import make_generation
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server, s3_server
from tests.servers import START_SECONDS, RedisServer, free_port, redis_binary, redis_cli
from tests.service.api.played_worker import IMAGE, PlayedWorker
from tests.service.application.test_restore import TILES

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "backup.md"

pytestmark = [pytest.mark.installs, pytest.mark.timeout(600)]


def commands(section: str) -> list[str]:
    """The indented blocks of one section, in their order."""
    text = PAGE.read_text(encoding="utf-8")
    (part,) = re.findall(rf"(?ms)^## {section}$(.*?)(?=^## |\Z)", text)
    blocks = re.findall(r"(?m)(?<=\n\n)((?:^ {4}\S.*\n)+)", part)
    return [re.sub(r"(?m)^ {4}", "", block) for block in blocks]


class Operator:
    """A shell with the programs that the page takes for granted."""

    def __init__(self, folder: Path, s3: S3Server, redis_url: str) -> None:
        programs = folder / "programs"
        venv.create(folder / "aws", with_pip=True)
        python = folder / "aws" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "awscli"], check=True)
        programs.mkdir()
        (programs / "aws").symlink_to(folder / "aws" / "bin" / "aws")
        (programs / "redis-cli").symlink_to(redis_cli())
        (programs / "redis-server").symlink_to(redis_binary())
        ours = programs / "hidiffusion"
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
        ours.chmod(0o755)
        self.folder = folder
        self.variables = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": s3.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "HIDIFFUSION_REDIS__URL": redis_url,
            "HIDIFFUSION_STORE__URL": "s3://live/results",
            "HIDIFFUSION_STORE__ENDPOINT": s3.endpoint,
            "HIDIFFUSION_STORE__ACCESS_KEY_ID": ACCESS_KEY_ID,
            "HIDIFFUSION_STORE__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }

    def run(self, script: str) -> str:
        """Run a block of the page; returns what it said."""
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout


def _empty(s3: S3Server, bucket: str) -> None:
    store = boto3.resource(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )
    store.Bucket(bucket).objects.all().delete()
    store.meta.client.close()


def test_what_is_backed_up_is_there_when_it_is_restored(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with s3_server() as s3:
        for bucket in ("live", "copy"):
            s3.create_bucket(bucket)
        operator = Operator(tmp_path, s3, own_redis.url)
        store = open_store(
            StoreSettings(
                url="s3://live/results",
                endpoint=s3.endpoint,
                access_key_id=ACCESS_KEY_ID,
                secret_access_key=SECRET_ACCESS_KEY,
            )
        )
        client = connect(own_redis.url)
        records = RedisRecords(client, Settings().redis)
        drawn, waiting = (records.accept(make_generation(model="emoji"), None).id for _ in "12")
        worker = PlayedWorker(records, store)
        attempt = worker.start(drawn)
        worker.tile(attempt, 0, b"tile zero", done=1)
        worker.tile(attempt, 1, b"tile one", done=2)
        worker.succeed(attempt, pyramid=TILES)
        client.close()

        (saves,) = commands("Back up")
        operator.run(saves)
        own_redis.stop()
        _empty(s3, "live")

        reads, copies, verifies, sweeps = commands("Restore")
        port = str(free_port())
        reads = reads.replace("6379", port).replace("redis-cli ", f"redis-cli -p {port} ")
        told = operator.run(reads)
        deadline = time.monotonic() + START_SECONDS
        asks = reads.splitlines()[-1]
        while "aof_rewrite_in_progress:1" in told:
            assert time.monotonic() < deadline
            told = operator.run(asks)
        assert "aof_enabled:1" in told
        assert "aof_last_bgrewrite_status:ok" in told
        operator.run(f"redis-cli -p {port} shutdown")

        again = RedisServer(tmp_path / "restored", append_only=True)
        again.start()
        try:
            operator.variables["HIDIFFUSION_REDIS__URL"] = again.url
            operator.run(copies)
            operator.run(verifies)
            operator.run(sweeps)
            client = connect(again.url)
            records = RedisRecords(client, Settings().redis)
            assert records.get(waiting).status == "queued"
            manifest = records.get(drawn).result
            client.close()
            assert manifest is not None
            assert store.get(manifest.image.key) == IMAGE
        finally:
            again.stop()
