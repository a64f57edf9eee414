"""What goes beyond the paper. Off by default: the model is the paper's then.

One file a switch or loss. Extensions of the fusion plug into its two seams (``extension.py``), a decoder
of another attention takes the place of the plain one (``qk_norm.py``), a loss is a further term of Eq. (5)
(``attention_guidance.py``, ``answer_words.py``). ``assemble.py`` puts together what a configuration asks for.
"""
