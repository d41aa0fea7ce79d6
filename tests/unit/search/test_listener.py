"""Hearing of spoken questions, with a recognizer of toys."""

import os
import threading

import numpy as np
import pytest

from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.results import TaskFailure
from mmsearch.core.speech import SAMPLE_RATE, SpeechSegment, Transcript
from mmsearch.executors import processes
from mmsearch.search.listener import Listener


class ToyRecognizer:
    """Hears as many dogs as there are seconds of sound."""

    def __init__(self):
        self.running = self.most_running = 0
        self.released = False

    def transcribe(self, samples, language=None):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        count = len(samples) // SAMPLE_RATE
        segments = [SpeechSegment(f"dog {n}.", n, n + 1, 0.5) for n in range(count)]
        threading.Event().wait(0.01)
        self.running -= 1
        return Transcript(segments, language or "en", 0.9, count)

    def release(self):
        self.released = True


class ToyExecutor:
    """Runs the tasks in this process."""

    closed = False

    def run(self, make_worker, tasks):
        for task in tasks:
            yield task, make_worker()(task)

    def close(self):
        self.closed = True


def decode(task):
    if task.content == b"bad":
        return TaskFailure("it is bad")
    return np.zeros(SAMPLE_RATE * len(task.content), np.float32)


@pytest.fixture
def recognizer():
    return ToyRecognizer()


@pytest.fixture
def executor():
    return ToyExecutor()


@pytest.fixture
def listener(recognizer, executor):
    return Listener(lambda: recognizer, lambda: decode, lambda: executor)


def test_words_of_all_segments_are_one_line_without_the_final_full_stop(listener):
    transcript = listener.listen(b"12")
    assert transcript.text == "dog 0. dog 1"
    assert transcript.heard.to_dict() == {
        "text": "dog 0. dog 1",
        "language": "en",
        "confidence": 0.5,
    }


def test_samples_are_not_decoded(listener):
    assert listener.listen(np.zeros(SAMPLE_RATE, np.float32), "de").language == "de"


def test_sound_that_cannot_be_decoded_is_named_with_the_reason(listener):
    with pytest.raises(SourceError, match=r"^q\.wav cannot be used as a question: it is bad\."):
        listener.listen(b"bad", name="q.wav")


def test_sound_without_speech_says_so(listener):
    with pytest.raises(InvalidQueryError, match="has no speech in it"):
        listener.listen(np.zeros(10, np.float32))


def test_samples_of_more_than_a_minute_are_refused(listener):
    with pytest.raises(SourceError, match="longer than 60 seconds"):
        listener.listen(np.zeros(SAMPLE_RATE * 60 + 1, np.float32))


def test_one_question_is_heard_at_a_time(listener, recognizer):
    threads = [threading.Thread(target=listener.listen, args=(b"1",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recognizer.most_running == 1


def test_closed_listener_starts_again_with_the_next_question(listener, executor):
    listener.listen(b"1")
    listener.close()
    assert executor.closed
    assert listener.listen(b"1").text == "dog 0"


def test_release_frees_the_model(listener, recognizer):
    listener.release()
    listener.listen(b"1")
    listener.release()
    assert recognizer.released


def make_crashing_decoder():
    return crash


def crash(task):
    os._exit(1)


def test_decoder_that_crashes_does_not_take_the_program_with_it(recognizer):
    listener = Listener(
        lambda: recognizer, make_crashing_decoder, lambda: processes.build(1, timeout_s=30)
    )
    for _ in range(2):
        with pytest.raises(SourceError, match="the decoder crashed"):
            listener.listen(b"1")
    listener.close()
