"""Rows that are the furniture of web pages."""

import re
from dataclasses import dataclass

# Of a text in lower case, which is searched more than twice as fast as with IGNORECASE.
_PHRASES = re.compile(
    r"lorem ipsum|enable javascript|javascript is (?:disabled|required)|accept (?:all )?cookies|cookie policy"
    r"|privacy policy|terms of (?:use|service)|all rights reserved|click here to|subscribe to our newsletter"
    r"|版权所有|未经(?:授权|许可)|[a-z\u4e00-\u9fff]icp[备证]|公网安备|隐私(?:政策|声明)|免责声明|点击(?:下载|进入|查看|这里)"
    r"|扫描?(?:下方)?二维码|关注(?:我们的)?(?:微信)?公众号|上一篇|下一篇|责任编辑"
)


@dataclass(frozen=True)
class Boilerplate:
    """Drops a text ("boilerplate") if too many of its characters stand in lines with a phrase of web furniture.

    C4 removes pages with "lorem ipsum" and lines that name JavaScript, cookies and terms of use (Raffel et al. 2020,
    section 2.2); the Chinese phrases are their counterparts. A line within prose may hold one: only a text that
    consists of such lines goes.

    Attributes:
        max_share: of the characters, white space at the ends of lines not counted.
    """

    max_share: float = 0.5

    def __call__(self, text: str) -> str | None:
        if not _PHRASES.search(text.lower()):
            return None
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        found = sum(len(line) for line in lines if _PHRASES.search(line.lower()))
        return "boilerplate" if found > self.max_share * sum(map(len, lines)) else None
