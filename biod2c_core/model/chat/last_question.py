"""Of a conversation, what the processor takes: the last question, answered from the image alone."""

CHAT_TEMPLATE = """
{%- for message in messages if message['role'] == 'user' -%}
  {%- if loop.last -%}
    {%- if message['content'] is string -%}
      {{- message['content'] -}}
    {%- else -%}
      {%- for part in message['content'] if part['type'] == 'text' -%}
        {{- part['text'] ~ ('' if loop.last else ' ') -}}
      {%- endfor -%}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}
"""
