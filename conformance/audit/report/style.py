"""The page's looks."""

from __future__ import annotations

CSS = """
:root{--ink:#1d2b33;--soft:#5c6b73;--line:#dfe5e8;--good:#117864;--bad:#b03a2e;--note:#9a7d0a}
*{box-sizing:border-box}
body{margin:0;background:#f6f8f8;color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:27px;margin:0 0 12px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 10px}
h3{font-size:15px;margin:18px 0 6px}
p{max-width:88ch;margin:8px 0}
section{background:#fff;border:1px solid var(--line);border-radius:8px;padding:20px 22px;
 margin-top:20px}
.small{color:var(--soft);font-size:13px}
.verdict{font-size:17px;font-weight:600;padding:10px 14px;border-radius:6px;max-width:none}
.verdict.good{background:#e3f3ee;color:var(--good)}
.verdict.bad{background:#fae6e3;color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(310px,1fr));gap:14px}
.card{border:1px solid var(--line);border-radius:6px;padding:10px 14px}
.card h3{margin:2px 0 8px}
ul{list-style:none;margin:0;padding:0}
li{font-size:13.5px;line-height:1.4;margin:7px 0;padding-left:58px;position:relative}
li b{margin-right:.35em}
.badge{position:absolute;left:0;top:1px;width:48px;text-align:center;border-radius:4px;font-size:11.5px;
 font-weight:600;color:#fff;padding:1px 0}
.badge.good{background:var(--good)}.badge.bad{background:var(--bad)}.badge.note{background:var(--note)}
.wide{overflow-x:auto;margin:8px 0 14px}
table{border-collapse:collapse;font-size:12.5px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:4px 7px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
thead th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
tbody th{text-align:left;font-weight:600}
thead th:first-child{text-align:left}
.words td,.words th{white-space:normal;text-align:left;vertical-align:top}
.fails{color:var(--bad);background:#fdf1ef}
figure{margin:14px 0}
figure svg{max-width:100%;height:auto;display:block}
figcaption{color:var(--soft);font-size:13.5px;max-width:92ch;margin-top:6px}
details{margin:10px 0}summary{cursor:pointer;font-weight:600}
code{font-size:13px;background:#eef2f3;padding:1px 4px;border-radius:3px}
"""
