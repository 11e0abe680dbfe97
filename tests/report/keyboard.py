"""A page in headless Chromium, worked by the keys of a keyboard.

Key events that a script makes are not trusted: a browser neither moves the focus nor presses a button for them. These
come through Chromium's debugging pipe (DevTools protocol, `Input.dispatchKeyEvent`) and count as a person's.
"""

import json
import os
import subprocess
import time
from pathlib import Path

_KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " "), "Escape": ("Escape", 27, "")}


class Keyboard:
    """`page` in a browser of its own until the end of the `with` block."""

    def __init__(self, chromium: str, page: Path, profile: Path):
        browser_reads, self._requests = os.pipe()
        answers, browser_writes = os.pipe()
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        # The browser reads at 3 and writes at 4, which may be other files in this process.
        redirected = ["bash", "-c", f'exec "$@" 3<&{browser_reads} 4>&{browser_writes}', "bash", *command]
        self._browser = subprocess.Popen(
            redirected, pass_fds=(browser_reads, browser_writes), stderr=subprocess.DEVNULL
        )
        os.close(browser_reads)
        os.close(browser_writes)
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._session: dict[str, str] = {}
        self._page = page

    def __enter__(self):
        target = self._send("Target.createTarget", url=self._page.as_uri())["targetId"]
        self._session = {"sessionId": self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.wait("document.readyState === 'complete' && document.documentElement.className === 'js'")
        return self

    def __exit__(self, *_):
        self._browser.kill()
        self._browser.wait()
        self._answers.close()
        os.close(self._requests)

    def press(self, key: str):
        """One of Tab, Enter, Space, Escape, down and up again."""
        name, code, text = _KEYS[key]
        about = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self._send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self._send("Input.dispatchKeyEvent", type="keyUp", **about)

    def look(self, expression: str):
        """The value of a JavaScript expression in the page."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 20):
        """Until the JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.look(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.02)

    def _send(self, method: str, **params):
        self._number += 1
        request = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._requests, json.dumps(request).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return answer["result"]

    def _message(self) -> bytes:
        """The browser's next message; they end in a zero byte."""
        message = b"".join(iter(lambda: self._answers.read(1).rstrip(b"\0"), b""))
        assert message, "the browser has ended"
        return message
