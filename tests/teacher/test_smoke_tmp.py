import spacy
def test_a(cnn_teacher, train_student, gold):
    p = train_student({"paths.teacher": str(cnn_teacher)})
    nlp = spacy.load(p)
    t = spacy.load(cnn_teacher)
    docs=[eg for d in gold.docs(t.vocab) for eg in [gold.make_example(d)]]
    print(t.evaluate(docs))
def test_b(transformer_teacher, train_student):
    p = train_student({"paths.teacher": str(transformer_teacher)})
