"""Forms that credentials have: words with a fixed beginning, as their issuers document them, and what calls itself one.

A maintained detector (detect-secrets, gitleaks) knows more services. It is not used here: detect-secrets has no rule
for a hub's tokens and brings requests and PyYAML into the base install, gitleaks is no Python package. What neither
prefix nor name gives away is caught by shape: a long word of mixed letters and digits, which no note about a
measurement needs.
"""

from __future__ import annotations

import re
from itertools import pairwise

_WORD = r"[A-Za-z0-9_-]"
# issuer -> the beginning and the length of its credentials. Documented at: huggingface.co/docs/hub/security-tokens;
# github.blog/2021-04-05-behind-githubs-new-authentication-token-formats; docs.gitlab.com/security/tokens;
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html; docs.slack.dev/authentication/tokens;
# docs.stripe.com/keys; docs.pypi.org (macaroon tokens); the others by the form of the keys that they hand out.
_ISSUED = (
    r"hf_[A-Za-z0-9]{16,}",
    r"api_org_[A-Za-z0-9]{16,}",
    r"gh[oprsu]_[A-Za-z0-9]{16,}",
    r"github_pat_\w{16,}",
    r"gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[\w.-]{16,}",
    rf"sk-{_WORD}{{16,}}",
    r"(?:A3T[A-Z0-9]|ABIA|ACCA|AGPA|AIDA|AIPA|AKIA|ANPA|ANVA|AROA|ASCA|ASIA)[A-Z0-9]{12,}",
    rf"AIza{_WORD}{{20,}}",
    rf"ya29\.{_WORD}{{10,}}",
    rf"GOCSPX-{_WORD}{{10,}}",
    r"xox[abeoprs]-[\w-]{8,}",
    r"xapp-\d-[\w-]{8,}",
    r"(?:sk|pk|rk|whsec)_(?:live|test)_\w{8,}",
    r"npm_[A-Za-z0-9]{16,}",
    rf"pypi-{_WORD}{{16,}}",
    r"do[opr]_v1_[0-9a-f]{16,}",
    rf"SG\.{_WORD}{{10,}}\.{_WORD}{{10,}}",
    r"tskey-[\w-]{8,}",
    rf"nvapi-{_WORD}{{16,}}",
    r"r8_[A-Za-z0-9]{16,}",
    r"gsk_[A-Za-z0-9]{16,}",
    rf"xai-{_WORD}{{16,}}",
    r"dckr_pat_[\w-]{8,}",
    r"glsa_\w{16,}",
    r"\d{8,10}:AA[\w-]{30,}",
)
_CALLED = (
    r"pass(?:word|wd|phrase)|pwd|secret|credentials?|(?:access|auth|api|private|account)[ _-]?(?:key|token)|apikey"
)
SECRETS = (
    re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_ISSUED)})", re.ASCII),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}", re.ASCII),  # JSON Web Token: RFC 7519, base64 of {"
    re.compile(r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIFICATE)|\bssh-(?:rsa|dss|ed25519) AAAA|\bAGE-SECRET-KEY-"),
    re.compile(r"\b(?:bearer|basic) +(?=\S*\d)[\w.~+/=-]{12,}", re.IGNORECASE | re.ASCII),
    re.compile(r"://[^/\s:@]{1,64}:[^/\s@]{1,128}@"),
    re.compile(rf"(?:\b|_)(?:{_CALLED})\b[\"']?(?: is)?\s*[:= ]\s*[\"']?(?=\S*[\d!$%&*#])\S{{6,}}", re.IGNORECASE),
    re.compile(rf"\b(?:{_CALLED})\b[\"']?\s*[:=]\s*[\"']?\S{{6,}}", re.IGNORECASE),
    re.compile(r"\btoken[\"']?\s*[:=]\s*[\"']?(?=\S*[A-Za-z])(?=\S*\d)\S{8,}", re.IGNORECASE),
    re.compile(r"[?&](?:[\w-]*(?:token|signature|credential|secret)|sig|key|auth)=[^&\s]{6,}", re.IGNORECASE),
    re.compile(r"\bhttps://(?:hooks\.slack\.com|discord(?:app)?\.com/api/webhooks)/\S+"),
)
_LONG = re.compile(r"(?<![\w/+=.-])[A-Za-z0-9+/_=-]{24,}(?![\w/+=.-])", re.ASCII)
_LONGEST_NAME = 12
_HEX = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{40})\b", re.IGNORECASE)
_ABOUT_KEYS = re.compile(r"\b(?:key|token|secret|auth|wandb|login)\b", re.IGNORECASE)


def holds_secret(text: str, *, free: bool = True) -> bool:
    """Whether some word of ``text`` has the form of a credential. Names with rules of their own (``free`` False) are
    not asked whether they look random: models are called so."""
    if any(pattern.search(text) for pattern in SECRETS):
        return True
    if _ABOUT_KEYS.search(text) and _HEX.search(text):
        return True
    return free and any(_looks_random(word) for word in _LONG.findall(text))


def _looks_random(word: str) -> bool:
    """Upper case, lower case and digits change at least one time in three, and not because short names are joined."""
    kinds = ["u" if c.isupper() else "l" if c.islower() else "d" for c in word if c.isalnum()]
    changes = sum(a != b for a, b in pairwise(kinds))
    longest = max(map(len, re.split(r"[-_/+=]", word)))
    return set(kinds) == {"u", "l", "d"} and longest >= _LONGEST_NAME and changes * 3 >= len(kinds)
