"""Ordinary text in many scripts with common punctuation, which must never look like an attack."""

from __future__ import annotations

import unicodedata

ORDINARY = {
    "English": 'The quick brown fox; "jumps" over the lazy dog... 50% of 3/4 & more? #1: a+b=c, [x] {y} <z> ~ it\'s. ',
    "German": "Zürich, Grüße aus München – 100 % schön; ½ Liter für 3 € … ‚ja‘ „nein“ / oder. ",  # noqa: RUF001
    "French": "« Où est le café ? » — À côté de l'hôtel ; n° 5, c'est-à-dire : là-bas… ",
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю; № 5 … «так» / нет. ",
    "Greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία; ναι· όχι. ",  # noqa: RUF001
    "Chinese": "我能吞下玻璃而不傷身體，你好（世界）！這是；測試：一、二。Ａ／Ｂ ",  # noqa: RUF001
    "Japanese": "いろはにほへと ちりぬるを、わかよたれそ。カタカナ ㍿ ﾊﾝｶｸ 〜 ",
    "Korean": "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요; ",
    "Arabic": "أنا قادر على أكل الزجاج و هذا لا يؤلمني؛ ﷺ ",
    "Hebrew": "אני יכול לאכול זכוכית וזה לא מזיק לי; ",
    "Thai": "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ นำ้ ",
    "Hindi": "मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती। ",
    "Vietnamese, decomposed": unicodedata.normalize("NFD", "Tôi có thể ăn thủy tinh mà không hại gì; được. "),
    "emoji": "😀👍🏽👩‍👩‍👧 flags 🇫🇷 ",
    "mathematics": "x² + y² ≤ ½ · ∑ ™ ① ∞ ",
    "URLs": "https://example.com/a/b.html?x=1&y=2#top, ",
    "file names": "C:\\Users\\Bob Smith\\My Documents\\file (1).txt; /usr/lib/libfoo.so.1, ",
    "ellipses": "wait... what.. ok . a...b ",
    "base64url": "SGVsbG8tV29ybGRfSGVsbG8tV29ybGRf",
    "base64": "SGVsbG8+V29y/GQ/SGVsbG8+V29ybGQ==",
}
